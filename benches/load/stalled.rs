//! Resident memory for each client that has stopped reading a large answer, while the edge still waits for it.
//!
//! Invariant: the look comes before the write time limit of the edge, at which such a client is cut off.

use std::path::PathBuf;
use std::time::Duration;

use benches::circuits::DOMAIN;
use benches::process::{AppProxy, neighbour};
use benches::report::{Report, rounded};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::echo::Target;

const SUBDOMAIN: &str = "stalled";

/// What the target answers, so much that no buffer takes it whole.
const ANSWER_BYTES: usize = 10_000_000;

/// Long enough for every buffer to fill; the edge waits for a minute.
const SETTLING_TIME: Duration = Duration::from_secs(15);

/// Options of `load stalled`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients.
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// The program [default: the one beside this]
    #[arg(long)]
    appproxy: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) {
    let program = args.appproxy.clone().unwrap_or_else(|| neighbour("appproxy"));
    let dir = tempfile::tempdir().expect("a folder");
    let target = Target::Answers(ANSWER_BYTES).start().await;
    let appproxy = AppProxy::start(&program, &dir.path().join("data"));
    appproxy.open("http", json!({"mode": "subdomain", "subdomain": SUBDOMAIN}), target).await;
    let before = appproxy.process().resident_bytes();
    let mut clients = Vec::with_capacity(args.clients);
    for _ in 0..args.clients {
        let mut stream = TcpStream::connect(appproxy.edge).await.expect("the edge listens");
        let request = format!("GET / HTTP/1.1\r\nHost: {SUBDOMAIN}.{DOMAIN}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        clients.push(stream);
    }
    tokio::time::sleep(SETTLING_TIME).await;
    let after = appproxy.process().resident_bytes();
    let each = after.saturating_sub(before) as f64 / 1024.0 / args.clients as f64;
    let mut report = Report::new("stalled", &["clients", "before_mib", "after_mib", "kib_each"]);
    let mib = |bytes: u64| rounded(bytes as f64 / f64::from(1 << 20), 1);
    report.row(vec![json!(args.clients), mib(before), mib(after), rounded(each, 1)]);
    report.print();
    appproxy.stop();
}
