//! Resident memory for circuits and for ports.
//!
//! Invariant: each figure comes from a process of its own that filled its registry before it looked the first time,
//! so what is counted between the two looks is the edge; and freed memory goes back to the kernel at once.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use benches::circuits::{self, Mode};
use benches::in_process::{FilledRegistry, InProcessEdge};
use benches::process::{port_range, resident_bytes};
use benches::report::{Report, rounded};
use serde_json::{Value, json};

/// Options of `load memory`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Numbers of subdomain circuits.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 50_000])]
    subdomains: Vec<usize>,
    /// Numbers of ports.
    #[arg(long, value_delimiter = ',', default_values_t = [2_000, 10_000])]
    ports: Vec<usize>,
}

/// Options of `load memory-of`.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    mode: Mode,
    count: usize,
}

pub(crate) fn run(args: Args) {
    let columns = ["what", "count", "edge_mib", "kib_each", "applied_after_ms"];
    let mut report = Report::new("memory", &columns);
    let empty = measure(Mode::Subdomain, 0);
    let base = edge_bytes(&empty);
    report.row(vec![json!("an edge"), json!(0), mib(base), json!(""), empty["applied_after_ms"].clone()]);
    let subdomains = args.subdomains.into_iter().map(|count| (Mode::Subdomain, count));
    let ports = args.ports.into_iter().map(|count| (Mode::Port, count));
    for (mode, count) in subdomains.chain(ports) {
        let found = measure(mode, count);
        let bytes = edge_bytes(&found);
        let kib_each = rounded((bytes - base) / 1024.0 / count as f64, 2);
        report.row(vec![json!(mode.as_str()), json!(count), mib(bytes), kib_each, found["applied_after_ms"].clone()]);
    }
    report.print();
}

/// Prints how many bytes an edge took, and how long it took to apply everything.
pub(crate) async fn run_one(args: One) {
    let target = SocketAddr::from(([127, 0, 0, 1], 8_000));
    let states =
        (0..args.count).map(|number| circuits::state(circuits::circuit(args.mode, number, port_range(), target)));
    let filled = FilledRegistry::new(states).await;
    let before = resident_bytes("self");
    let start = Instant::now();
    let edge = InProcessEdge::start(filled).await;
    let applied_after_ms = start.elapsed().as_millis() as u64;
    let after = resident_bytes("self");
    println!("{}", json!({"edge_bytes": after.saturating_sub(before), "applied_after_ms": applied_after_ms}));
    drop(edge);
}

fn measure(mode: Mode, count: usize) -> Value {
    let program = std::env::current_exe().expect("a path");
    let output = Command::new(program)
        .args(["memory-of", mode.as_str(), &count.to_string()])
        .env("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn edge_bytes(found: &Value) -> f64 {
    found["edge_bytes"].as_f64().expect("a number")
}

fn mib(bytes: f64) -> Value {
    rounded(bytes / f64::from(1 << 20), 1)
}
