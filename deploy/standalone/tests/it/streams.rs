//! Byte streams through circuits: real programs at both ends, and much more than the proxy may hold.

mod bulk;
mod memory;
mod openssh;
mod postgresql;

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::wait::within_for;
use tokio::process::Command;

/// How long a program may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The body that opens a circuit whose way in follows from its protocol.
fn circuit(protocol: &str, target: SocketAddr) -> Value {
    let target = json!({"host": target.ip().to_string(), "port": target.port()});
    json!({
        "session_id": "s1", "service": protocol, "protocol": protocol, "targets": [target], "access": {"public": true},
    })
}

/// Runs a program to its end; it ends with the future too.
async fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    within_for(&format!("the end of {command:?}"), LIMIT, command.output()).await.unwrap()
}

/// The same for one that must succeed; what it printed comes back.
async fn succeed(command: &mut Command) -> String {
    let output = run(command).await;
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}: {printed}{errors}", output.status);
    printed.into_owned()
}
