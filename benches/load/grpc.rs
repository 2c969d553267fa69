//! What the edge adds to a unary call over HTTP/2, one call at a time: an answer with content and trailers, directly and
//! through the edge.
//!
//! Invariant: direct and relayed calls take turns over connections that stay open, so both see the same machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use benches::process::{AppProxy, neighbour};
use benches::report::{Report, rounded};
use benches::samples::Samples;
use serde_json::json;
use testkit::http2::{Http2Client, Http2Origin, get};

/// Options of `load grpc`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Calls each way.
    #[arg(long, default_value_t = 5_000)]
    calls: usize,
    /// The program [default: the one beside this]
    #[arg(long)]
    appproxy: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) {
    let program = args.appproxy.clone().unwrap_or_else(|| neighbour("appproxy"));
    let dir = tempfile::tempdir().expect("a folder");
    let origin = Http2Origin::start("model").await;
    let appproxy = AppProxy::start(&program, &dir.path().join("data"));
    let port: SocketAddr = appproxy.open("grpc", json!({"mode": "port"}), origin.address()).await;
    let mut direct = Http2Client::connect(origin.address()).await;
    let mut relayed = Http2Client::connect(port).await;
    for _ in 0..200 {
        call(&mut direct).await;
        call(&mut relayed).await;
    }
    let (mut direct_samples, mut relayed_samples) = (Samples::default(), Samples::default());
    for _ in 0..args.calls {
        direct_samples.add(call(&mut direct).await);
        relayed_samples.add(call(&mut relayed).await);
    }
    let added_us = (relayed_samples.quantile_ms(0.5) - direct_samples.quantile_ms(0.5)) * 1e3;
    let mut report = Report::new("grpc", &["call", "calls", "p50_us", "p99_us", "added_p50_us"]);
    for (name, samples, added) in
        [("direct", &direct_samples, json!("")), ("through the edge", &relayed_samples, rounded(added_us, 1))]
    {
        let micros = |share| rounded(samples.quantile_ms(share) * 1e3, 1);
        report.row(vec![json!(name), json!(samples.len()), micros(0.5), micros(0.99), added]);
    }
    report.print();
    appproxy.stop();
}

async fn call(client: &mut Http2Client) -> Duration {
    let start = Instant::now();
    let answer = client.ask(get("/echo")).await.expect("an answer");
    assert_eq!(answer.status, 200);
    start.elapsed()
}
