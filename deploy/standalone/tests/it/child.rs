//! A proxy in a process of its own that can be killed, with a clock that the test turns.
//!
//! The program that people start has no such clock, so the test starts itself again: the test below does nothing
//! unless [`FOLDER`] is set, and then it is the proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use entities::authority::PortRange;
use entities::clock::{Clock, from_unix_ms};
use entities::registry::memory::MemoryRegistry;
use standalone::data::Data;
use standalone::serve::{self, Listeners};
use tempfile::TempDir;
use testkit::wait::wait_until;
use time::OffsetDateTime;
use tokio::process::{Child, Command};

use crate::harness::{Manager, config};

const FOLDER: &str = "APPPROXY_TEST_CHILD_FOLDER";
const PORTS: &str = "APPPROXY_TEST_CHILD_PORTS";

/// Reads the time that the test wrote.
struct FileClock(PathBuf);

impl Clock for FileClock {
    fn now(&self) -> OffsetDateTime {
        let text = std::fs::read_to_string(&self.0).unwrap();
        from_unix_ms(text.parse().unwrap())
    }
}

/// The proxy, when [`Killable`] started this process.
#[tokio::test(flavor = "multi_thread")]
async fn proxy_process() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let ports: PortRange = std::env::var(PORTS).unwrap().parse().unwrap();
    let data = Data::open(&folder.join("data")).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = Listeners::bind(any, any).unwrap();
    let config = config(&data, &listeners, ports, Duration::from_secs(1));
    replace(&folder.join("address"), &listeners.api_address().unwrap().to_string());
    let clock = Arc::new(FileClock(folder.join("clock")));
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    serve::run(config, listeners, clock, Arc::new(MemoryRegistry::new()), stopped).await.unwrap();
}

fn replace(path: &Path, text: &str) {
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, text).unwrap();
    std::fs::rename(&unfinished, path).unwrap();
}

/// A proxy that can be killed and started again on the same data.
pub(crate) struct Killable {
    folder: TempDir,
    ports: PortRange,
    now_ms: i64,
    child: Child,
    pub(crate) manager: Manager,
}

impl Killable {
    pub(crate) async fn start(ports: PortRange) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now_ms = 1_800_000_000_000;
        replace(&folder.path().join("clock"), &now_ms.to_string());
        let (child, manager) = spawn(folder.path(), ports).await;
        Self { folder, ports, now_ms, child, manager }
    }

    /// Starts it again after [`Killable::kill`].
    pub(crate) async fn restart(&mut self) {
        (self.child, self.manager) = spawn(self.folder.path(), self.ports).await;
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// The proxy's clock.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Turns the proxy's clock.
    pub(crate) fn advance(&mut self, span: Duration) {
        self.now_ms += i64::try_from(span.as_millis()).unwrap();
        replace(&self.folder.path().join("clock"), &self.now_ms.to_string());
    }
}

/// This program once more, for one of its tests that is a process of its own.
pub(crate) fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

async fn spawn(folder: &Path, ports: PortRange) -> (Child, Manager) {
    let address = folder.join("address");
    let _ = std::fs::remove_file(&address);
    let child = again("child::proxy_process").env(FOLDER, folder).env(PORTS, ports.to_string()).spawn().unwrap();
    wait_until("the proxy's address", async || address.exists()).await;
    let api = std::fs::read_to_string(&address).unwrap();
    let key = std::fs::read_to_string(folder.join("data/api.key")).unwrap();
    let manager = Manager::new(api.parse().unwrap(), key.trim());
    manager.wait_for_workers(1).await;
    (child, manager)
}
