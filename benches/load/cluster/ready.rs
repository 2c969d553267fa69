//! An edge that finds many circuits in etcd: how soon it is ready, and how much memory it takes.
//!
//! Invariant: every start is one of a new process, and memory is read when the snapshot is written and nothing moves.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use benches::edge_process::{EdgeProcess, EdgeSettings};
use benches::filled_etcd::{EtcdChoice, FilledEtcd};
use benches::process::{peak_resident_bytes, proportional_bytes, resident_bytes};
use benches::report::{Report, rounded};
use serde_json::{Value, json};
use testkit::ports::free_port;

/// How long memory must not move; the allocator gives back bit by bit, over ten seconds, what is not used.
const QUIET: Duration = Duration::from_secs(6);

/// Options of `load cluster-ready`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Circuits in etcd.
    #[arg(long, default_value_t = 50_000)]
    circuits: usize,
    /// Starts of an edge with an empty data folder.
    #[arg(long, default_value_t = 3)]
    starts: usize,
    #[command(flatten)]
    etcd: EtcdChoice,
}

/// Resident memory over that of an edge of an empty registry.
struct Above(f64);

pub(crate) async fn run(args: Args) {
    let target = SocketAddr::from(([127, 0, 0, 1], 8_000));
    let dir = tempfile::tempdir().expect("a folder");
    let columns = ["edge", "ready_ms", "at_ready_mib", "peak_mib", "rss_mib", "pss_mib", "above_empty_mib", "circuits"];
    let mut report = Report::new("cluster-ready", &columns);

    let empty = FilledEtcd::start(args.etcd, 0, target).await;
    let (edge, base) = start(dir.path(), &settings(&empty, "empty", "main"), None, &mut report).await;
    edge.stop();
    drop(empty);

    let mut filled = FilledEtcd::start(args.etcd, args.circuits, target).await;
    for number in 1..=args.starts {
        let settings = settings(&filled, &format!("main-{number}"), "main");
        let (edge, _) = start(dir.path(), &settings, Some(&base), &mut report).await;
        edge.stop();
    }
    let (edge, _) = start(dir.path(), &settings(&filled, "elsewhere", "other"), Some(&base), &mut report).await;
    edge.stop();

    let again = settings(&filled, "main-1", "main");
    filled.etcd.kill();
    let (edge, _) = start(dir.path(), &again, Some(&base), &mut report).await;
    edge.stop();
    report.row(vec![
        json!(format!("(filling etcd, 64 at a time: {:.1} s)", filled.filled_in.as_secs_f64())),
        json!(""),
        json!(""),
        json!(""),
        json!(""),
        json!(""),
        json!(""),
        json!(args.circuits),
    ]);
    report.print();
}

fn settings(filled: &FilledEtcd, name: &str, authority: &str) -> EdgeSettings {
    filled.edge(name, authority, SocketAddr::from(([127, 0, 0, 1], free_port())))
}

async fn start(dir: &Path, settings: &EdgeSettings, base: Option<&Above>, report: &mut Report) -> (EdgeProcess, Above) {
    let edge = EdgeProcess::start(dir, settings).await;
    let id = edge.process().id().to_string();
    let at_ready = resident_bytes(&id);
    let resident = edge.settled_resident_bytes(QUIET).await;
    let above = base.map_or_else(|| json!(""), |base| mib(resident - base.0));
    report.row(vec![
        json!(settings.name),
        rounded(edge.ready_after.as_secs_f64() * 1e3, 0),
        mib(at_ready as f64),
        mib(peak_resident_bytes(&id) as f64),
        mib(resident),
        mib(proportional_bytes(&id) as f64),
        above,
        json!(edge.metric("appproxy_edge_circuits").await),
    ]);
    (edge, Above(resident))
}

fn mib(bytes: f64) -> Value {
    rounded(bytes / f64::from(1 << 20), 1)
}
