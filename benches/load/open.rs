//! `POST /v2/circuits` end to end, one at a time.
//!
//! Invariant: every answer counted is a `201`, so the circuit is served when the clock stops.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use benches::circuits::Mode;
use benches::process::{AppProxy, neighbour};
use benches::report::Report;
use benches::samples::Samples;
use benches::stored;
use serde_json::json;

/// Options of `load open`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Circuits of each kind to open.
    #[arg(long, default_value_t = 500)]
    opens: usize,
    /// Circuits that are there before.
    #[arg(long, default_value_t = 0)]
    present: usize,
    /// The program [default: the one beside this]
    #[arg(long)]
    appproxy: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) {
    let program = args.appproxy.unwrap_or_else(|| neighbour("appproxy"));
    let dir = tempfile::tempdir().expect("a folder");
    let target = SocketAddr::from(([127, 0, 0, 1], 8_000));
    stored::prepare(&program, dir.path(), args.present, target).await;
    if args.present > 0 {
        // The first start publishes what was stored, which goes on for a while after it is ready.
        AppProxy::start(&program, dir.path()).stop();
    }

    let mut report = Report::of_latencies("open");
    report.latency("one fsync of 4 KiB in that folder", &fsyncs(dir.path(), 200));
    let proxy = AppProxy::start(&program, dir.path());
    let client = testkit::client::keep_alive_client();
    let (mut subdomains, mut ports) = (Samples::default(), Samples::default());
    for number in 0..args.opens {
        // In turn, so that both see the same machine.
        open(&proxy, &client, Mode::Subdomain, number, target, &mut subdomains).await;
        open(&proxy, &client, Mode::Port, number, target, &mut ports).await;
    }
    report.latency(&format!("subdomain, {} present", args.present), &subdomains);
    report.latency(&format!("port, {} present", args.present), &ports);
    report.print();
    proxy.stop();
}

async fn open(
    proxy: &AppProxy,
    client: &reqwest::Client,
    mode: Mode,
    number: usize,
    target: SocketAddr,
    samples: &mut Samples,
) {
    let body = json!({
        "session_id": format!("opened-{number}"), "service": mode.as_str(), "frontend": {"mode": mode.as_str()},
        "targets": [{"host": target.ip().to_string(), "port": target.port()}],
        "access": {"public": true},
    });
    let request = client.post(format!("http://{}/v2/circuits", proxy.api)).bearer_auth(&proxy.key).json(&body);
    let start = Instant::now();
    let reply = request.send().await.expect("the coordinator answers");
    let (status, text) = (reply.status(), reply.text().await.expect("the whole answer"));
    samples.add(start.elapsed());
    assert_eq!(status, reqwest::StatusCode::CREATED, "{text}");
}

/// What the disk asks for a durable write; an open circuit costs at least one.
pub(crate) fn fsyncs(dir: &Path, count: usize) -> Samples {
    let path = dir.join("fsync");
    let mut file = File::create(&path).expect("a file");
    let mut samples = Samples::default();
    for _ in 0..count {
        let start = Instant::now();
        file.write_all(&[1; 4_096]).expect("written");
        file.sync_data().expect("synced");
        samples.add(start.elapsed());
    }
    std::fs::remove_file(path).expect("it was ours");
    samples
}
