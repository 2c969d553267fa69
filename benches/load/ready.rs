//! From the start of `appproxy` to its `ready` line.
//!
//! Invariant: the folder is on a disk and every start ends in order, so no start repairs what another one left.

use std::net::SocketAddr;
use std::path::PathBuf;

use benches::process::{AppProxy, neighbour};
use benches::report::{Report, rounded};
use benches::samples::median;
use benches::stored;
use serde_json::json;

/// Options of `load ready`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Circuits in the store.
    #[arg(long, default_value_t = 10_000)]
    circuits: usize,
    /// Starts, after a first one that publishes the circuits for the first time.
    #[arg(long, default_value_t = 5)]
    starts: usize,
    /// The program [default: the one beside this]
    #[arg(long)]
    appproxy: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) {
    let program = args.appproxy.unwrap_or_else(|| neighbour("appproxy"));
    let dir = tempfile::tempdir().expect("a folder");
    let target = SocketAddr::from(([127, 0, 0, 1], 8_000));
    stored::prepare(&program, dir.path(), args.circuits, target).await;

    let mut report = Report::new("ready", &["start", "circuits", "ready_ms", "resident_mib"]);
    let mut times = Vec::new();
    for number in 0..=args.starts {
        let proxy = AppProxy::start(&program, dir.path());
        let ready_ms = proxy.ready_after.as_secs_f64() * 1e3;
        let resident_mib = proxy.process().resident_bytes() as f64 / f64::from(1 << 20);
        proxy.stop();
        let name = if number == 0 { "never served before".to_owned() } else { format!("start {number}") };
        if number > 0 {
            times.push(ready_ms);
        }
        report.row(vec![json!(name), json!(args.circuits), rounded(ready_ms, 0), rounded(resident_mib, 1)]);
    }
    if !times.is_empty() {
        report.row(vec![json!("median"), json!(args.circuits), rounded(median(&times), 0), json!("")]);
    }
    report.print();
}
