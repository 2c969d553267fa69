//! Processor time for a small request over kept connections: `appproxy` against a bare pingora proxy and nginx.
//!
//! Invariant: all contenders have the same origin, the same client and the same processors, and every round asks each
//! of them once, so that what disturbs the machine disturbs all of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use benches::circuits::DOMAIN;
use benches::process::{AppProxy, Process, neighbour, wait_for_port};
use benches::report::{Report, rounded};
use benches::samples::median;
use serde_json::json;
use testkit::ports::free_port;

use crate::tools::{Nginx, wrk};

/// The name of the circuit.
const SUBDOMAIN: &str = "small";

/// Options of `load cpu`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; in each one every contender is measured once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that one measurement takes.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections of the client.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// The proxy alone on processor 0, origin and client on processor 1.
    #[arg(long)]
    pin: bool,
    /// The program [default: the one beside this]
    #[arg(long)]
    appproxy: Option<PathBuf>,
    /// The bare proxy [default: the one beside this]
    #[arg(long)]
    bare_proxy: Option<PathBuf>,
}

/// One proxy that is measured.
struct Contender {
    name: &'static str,
    address: SocketAddr,
    cpu_us: Vec<f64>,
}

pub(crate) async fn run(args: Args) {
    let program = args.appproxy.clone().unwrap_or_else(|| neighbour("appproxy"));
    let bare = args.bare_proxy.clone().unwrap_or_else(|| neighbour("bare-proxy"));
    let (proxy_cpu, other_cpu) = if args.pin { (Some(0), Some(1)) } else { (None, None) };
    let workers = if args.pin { 1 } else { available_parallelism().map_or(1, usize::from) };
    let dir = tempfile::tempdir().expect("a folder");
    let origin = Nginx::origin(dir.path(), other_cpu);
    let appproxy = AppProxy::start_on(&program, &dir.path().join("data"), proxy_cpu);
    let frontend = json!({"mode": "subdomain", "subdomain": SUBDOMAIN});
    appproxy.open("http", frontend, origin.address).await;
    let plain = start_bare(&bare, origin.address, false, proxy_cpu);
    let lean = start_bare(&bare, origin.address, true, proxy_cpu);
    let nginx = Nginx::proxy(dir.path(), workers, origin.address, proxy_cpu);

    let processes = [appproxy.process(), &plain.0, &lean.0, &nginx.process];
    let mut contenders = [
        Contender::new("edge", appproxy.edge),
        Contender::new("bare", plain.1),
        Contender::new("bare lean", lean.1),
        Contender::new("nginx", nginx.address),
    ];
    let columns = ["round", "proxy", "requests_per_s", "cpu_us", "p99_ms", "to_bare", "to_lean", "to_nginx"];
    let mut report = Report::new(if args.pin { "cpu --pin" } else { "cpu" }, &columns);
    let host = format!("{SUBDOMAIN}.{DOMAIN}");
    for contender in &contenders {
        wrk(contender.address, &host, args.connections, 1, other_cpu);
    }
    for round in 1..=args.rounds {
        let mut rows = Vec::new();
        for (contender, process) in contenders.iter_mut().zip(processes) {
            let before = process.cpu_s();
            let seen = wrk(contender.address, &host, args.connections, args.seconds, other_cpu);
            let cpu_us = (process.cpu_s() - before) * 1e6 / seen.requests;
            contender.cpu_us.push(cpu_us);
            rows.push((contender.name, seen, cpu_us));
        }
        let (bare, lean, nginx) = (rows[1].2, rows[2].2, rows[3].2);
        for (name, seen, cpu_us) in rows {
            let ratio = |other: f64| rounded(cpu_us / other, 3);
            report.row(vec![
                json!(round),
                json!(name),
                rounded(seen.per_second, 0),
                rounded(cpu_us, 2),
                rounded(seen.p99_ms, 2),
                ratio(bare),
                ratio(lean),
                ratio(nginx),
            ]);
        }
    }
    // The median of the ratios of each round, not the ratio of the medians: what disturbed a round cancels out.
    for contender in &contenders {
        let ratio = |other: usize| {
            let pairs = contender.cpu_us.iter().zip(&contenders[other].cpu_us);
            rounded(median(&pairs.map(|(own, other)| own / other).collect::<Vec<_>>()), 3)
        };
        let cpu_us = rounded(median(&contender.cpu_us), 2);
        report.row(vec![
            json!("median"),
            json!(contender.name),
            json!(""),
            cpu_us,
            json!(""),
            ratio(1),
            ratio(2),
            ratio(3),
        ]);
    }
    report.print();
    appproxy.stop();
}

fn start_bare(program: &Path, origin: SocketAddr, is_lean: bool, cpu: Option<usize>) -> (Process, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(program);
    command.args(["--listen", &address.to_string(), "--origin", &origin.to_string()]);
    if is_lean {
        command.arg("--lean");
    }
    let process = Process::start(command, cpu);
    wait_for_port(address);
    (process, address)
}

// === impl Contender ===

impl Contender {
    fn new(name: &'static str, address: SocketAddr) -> Self {
        Self { name, address, cpu_us: Vec::new() }
    }
}
