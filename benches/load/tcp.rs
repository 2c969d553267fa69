//! Processor time for each GB of a byte stream: the edge against haproxy with splice.
//!
//! Invariant: every round sends the same bytes through each of them, one after the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use benches::process::{AppProxy, neighbour, peak_resident_bytes};
use benches::report::{Report, rounded};
use benches::samples::median;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::echo::Target;
use crate::tools::Haproxy;

const GB: u64 = 1_000_000_000;

/// Options of `load tcp`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; in each one every proxy carries the same.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// GB that one measurement carries.
    #[arg(long, default_value_t = 4)]
    gb: u64,
    /// The program [default: the one beside this]
    #[arg(long)]
    appproxy: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) {
    let program = args.appproxy.clone().unwrap_or_else(|| neighbour("appproxy"));
    let dir = tempfile::tempdir().expect("a folder");
    let target = Target::Sends.start().await;
    let appproxy = AppProxy::start(&program, &dir.path().join("data"));
    let port = appproxy.open("tcp", json!({"mode": "port"}), target).await;
    let haproxy = Haproxy::start(dir.path(), "tcp", target);
    let contenders = [("edge", port, appproxy.process()), ("haproxy", haproxy.address, &haproxy.process)];
    let mut report = Report::new("tcp", &["round", "proxy", "gb_per_s", "cpu_s_per_gb", "to_haproxy", "peak_mib"]);
    let mut ratios = Vec::new();
    for (_, address, _) in contenders {
        carry(address, GB / 10).await;
    }
    for round in 1..=args.rounds {
        let mut costs = Vec::new();
        for (name, address, process) in contenders {
            let (before, start) = (process.cpu_s(), Instant::now());
            carry(address, args.gb * GB).await;
            let seconds = start.elapsed().as_secs_f64();
            costs.push((name, (process.cpu_s() - before) / args.gb as f64, seconds, process.id()));
        }
        let haproxy_cost = costs[1].1;
        ratios.push(costs[0].1 / haproxy_cost);
        for (name, cost, seconds, id) in costs {
            let peak = peak_resident_bytes(&id.to_string()) as f64 / f64::from(1 << 20);
            report.row(vec![
                json!(round),
                json!(name),
                rounded(args.gb as f64 / seconds, 2),
                rounded(cost, 3),
                rounded(cost / haproxy_cost, 3),
                rounded(peak, 1),
            ]);
        }
    }
    report.row(vec![json!("median"), json!("edge"), json!(""), json!(""), rounded(median(&ratios), 3), json!("")]);
    report.print();
    appproxy.stop();
}

/// Takes so many bytes from the target behind `address`.
async fn carry(address: SocketAddr, bytes: u64) {
    let mut stream = TcpStream::connect(address).await.expect("the proxy listens");
    stream.write_u64(bytes).await.expect("sent");
    let mut block = vec![0; 256 * 1024];
    let mut seen = 0;
    while seen < bytes {
        let count = stream.read(&mut block).await.expect("bytes");
        assert!(count > 0, "the stream ended after {seen} bytes");
        seen += count as u64;
    }
}
