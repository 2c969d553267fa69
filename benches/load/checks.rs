//! What health checks cost an edge.
//!
//! Invariant: the edge runs in a process of its own, so its processor time is nobody else's; probes are counted by those whom
//! they reach.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::circuits::{self, Mode};
use benches::in_process::{FilledRegistry, InProcessEdge};
use benches::process::{family_cpu_s, port_range};
use benches::report::{Report, rounded};
use entities::health_check::{CheckType, HealthCheck};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// From one probe of an address to the next.
const INTERVAL: Duration = Duration::from_secs(5);

/// Options of `load checks`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Circuits with a health check.
    #[arg(long, default_value_t = 5_000)]
    circuits: usize,
    /// Addresses that they have between them.
    #[arg(long, default_value_t = 500)]
    addresses: usize,
    /// How long to look.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// Options of `load checks-of`.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    circuits: usize,
    addresses: usize,
    port: u16,
    kind: String,
}

pub(crate) async fn run(args: Args) {
    let mut report = Report::new(
        "checks",
        &["check", "circuits", "addresses", "probes_per_s", "addresses_per_interval", "cpu_percent"],
    );
    for kind in ["none", "tcp", "http"] {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let probes = Arc::new(AtomicU64::new(0));
        let answering = tokio::spawn(answer(listener, Arc::clone(&probes)));
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .args(["checks-of", &args.circuits.to_string(), &args.addresses.to_string(), &port.to_string(), kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says that it is ready");
        // Every address has had its first probe after one interval.
        tokio::time::sleep(2 * INTERVAL).await;
        let (start, cpu, counted) = (Instant::now(), family_cpu_s(child.id()), probes.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), family_cpu_s(child.id()) - cpu);
        let counted = (probes.load(Ordering::Relaxed) - counted) as f64;
        // It ends when it is told nothing more.
        drop(child.stdin.take());
        child.wait().expect("ends");
        answering.abort();
        report.row(vec![
            json!(kind),
            json!(args.circuits),
            json!(args.addresses),
            rounded(counted / seconds, 1),
            rounded(args.addresses as f64 / INTERVAL.as_secs_f64(), 1),
            rounded(100.0 * cpu / seconds, 2),
        ]);
    }
    report.print();
}

/// An edge with many checks, until its input ends.
pub(crate) async fn run_one(args: One) {
    let kind = match args.kind.as_str() {
        "tcp" => Some(CheckType::Tcp),
        "http" => Some(CheckType::Http),
        _ => None,
    };
    let check = kind.map(|kind| HealthCheck {
        kind,
        path: (kind == CheckType::Http).then(|| "/".to_owned()),
        expected_status: Vec::new(),
        interval_s: u16::try_from(INTERVAL.as_secs()).expect("short"),
        timeout_s: 2,
        retries: 3,
        grace_s: 0,
    });
    let state = |number: usize| {
        let [high, low] = u16::try_from(number % args.addresses).expect("few addresses").to_be_bytes();
        let target = SocketAddr::from(([127, 1, high, low], args.port));
        let mut circuit = circuits::circuit(Mode::Subdomain, number, port_range(), target);
        circuit.traffic.health_check.clone_from(&check);
        circuits::state(circuit)
    };
    let edge = InProcessEdge::start(FilledRegistry::new((0..args.circuits).map(state)).await).await;
    println!("ready");
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await
        .expect("no panic")
        .expect("it ends");
    drop(edge);
}

async fn answer(listener: TcpListener, probes: Arc<AtomicU64>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        probes.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let mut request = [0; 1_024];
            if matches!(stream.read(&mut request).await, Ok(count) if count > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                // A prober that has what it wanted may be gone.
                let _ = stream.write_all(answer).await;
            }
        });
    }
}
