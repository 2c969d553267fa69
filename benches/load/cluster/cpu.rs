//! Processor time that an open costs each part of a cluster.
//!
//! Invariant: every open counted ended with `201`, so that the work of both edges is in the sum.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use benches::cluster::Cluster;
use benches::filled_etcd::EtcdChoice;
use benches::report::{Report, rounded};
use benches::samples::Samples;
use serde_json::json;
use tokio::task::JoinSet;

/// Options of `load cluster-cpu`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Circuits that are there before.
    #[arg(long, default_value_t = 10_000)]
    present: usize,
    /// Circuits to open.
    #[arg(long, default_value_t = 1_000)]
    opens: usize,
    /// Clients that open them.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    #[command(flatten)]
    etcd: EtcdChoice,
}

pub(crate) async fn run(args: Args) {
    let target = SocketAddr::from(([127, 0, 0, 1], 8_000));
    let mut cluster = Cluster::start(args.etcd).await;
    if args.present > 0 {
        cluster.fill(args.present, target).await;
    }
    let mut report = Report::new("cluster-cpu", &["part", "opens", "cpu_ms_per_open", "share"]);
    let cluster = Arc::new(cluster);
    open_all(&cluster, "warm", args.clients * 4, args.clients, target).await;
    let before = cluster.cpu_times();
    let start = Instant::now();
    let samples = open_all(&cluster, "opened", args.opens, args.clients, target).await;
    let seconds = start.elapsed().as_secs_f64();
    let after = cluster.cpu_times();
    let spent: Vec<f64> = before.iter().zip(&after).map(|((_, before), (_, after))| after - before).collect();
    let sum: f64 = spent.iter().sum();
    let each_ms = |cpu_s: f64| rounded(cpu_s * 1e3 / args.opens as f64, 3);
    for ((part, _), cpu_s) in after.iter().zip(&spent) {
        report.row(vec![json!(part), json!(args.opens), each_ms(*cpu_s), rounded(cpu_s / sum, 2)]);
    }
    report.row(vec![json!("all"), json!(args.opens), each_ms(sum), json!(1)]);
    let per_second = format!("{:.0} opens per second", args.opens as f64 / seconds);
    let quantiles = [0.5, 0.99].map(|share| samples.quantile_ms(share));
    let latency = format!("p50 {:.1} ms, p99 {:.1} ms", quantiles[0], quantiles[1]);
    for text in [per_second, latency] {
        report.row(vec![json!(text), json!(args.opens), json!(""), json!("")]);
    }
    report.print();
}

async fn open_all(cluster: &Arc<Cluster>, name: &str, opens: usize, clients: usize, target: SocketAddr) -> Samples {
    let mut tasks = JoinSet::new();
    for client_number in 0..clients {
        let (cluster, name) = (Arc::clone(cluster), name.to_owned());
        tasks.spawn(async move {
            let client = testkit::client::keep_alive_client();
            let mut times = Vec::new();
            for number in (client_number..opens).step_by(clients) {
                times.push(cluster.open(&client, &format!("{name}-{number}"), target).await);
            }
            times
        });
    }
    let mut samples = Samples::default();
    tasks.join_all().await.into_iter().flatten().for_each(|time| samples.add(time));
    samples
}
