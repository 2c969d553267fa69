//! An edge whose watch ended while circuits changed: what it does about those that did not.
//!
//! Invariant: the changes are made while the edge is stopped and after its connections to etcd are gone, so no watch
//! can have brought them; what it did is told by its own log and metrics.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use benches::circuits;
use benches::edge_process::EdgeProcess;
use benches::filled_etcd::{EtcdChoice, FilledEtcd, publish, subdomain};
use benches::report::{Report, rounded};
use coordinator::publish::Publisher;
use entities::ids::{Generation, Revision};
use entities::registry::layout::CircuitState;
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;

/// How long the snapshot must not grow to be counted as written.
const QUIET: Duration = Duration::from_secs(3);

/// What the edge logs at level debug for each circuit that it touches.
const MESSAGES: [&str; 3] = ["circuit opened", "circuit changed", "circuit closed"];

/// Options of `load cluster-relist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Circuits in etcd.
    #[arg(long, default_value_t = 50_000)]
    circuits: usize,
    /// Times that the watch ends.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    etcd: EtcdChoice,
}

pub(crate) async fn run(args: Args) {
    let (before, after) = (Origin::start("before").await, Origin::start("after").await);
    let mut filled = FilledEtcd::start(args.etcd, args.circuits, before.address()).await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut settings = filled.edge("edge-1", "main", SocketAddr::from(([127, 0, 0, 1], free_port())));
    settings.log = Some("info,edge=debug,pingora_core=warn,pingora_proxy=off");
    let edge = EdgeProcess::start(dir.path(), &settings).await;
    edge.settled_snapshot_bytes(QUIET).await;

    let columns = [
        "round",
        "circuits",
        "relists",
        "opened",
        "changed",
        "closed",
        "events_metric",
        "applied_ms",
        "snapshot_bytes",
        "of_bytes",
    ];
    let mut report = Report::new("cluster-relist", &columns);
    for round in 0..args.rounds {
        let earlier = Seen::of(&edge).await;
        edge.process().signal(Signal::SIGSTOP);
        filled.etcd.restart().await;
        let numbers = Numbers::of(round, args.circuits);
        let last = numbers.change(&filled.publisher().await, after.address()).await;

        let start = Instant::now();
        edge.process().signal(Signal::SIGCONT);
        edge.asker().await.wait_applied(filled.epoch(), last).await;
        let applied_ms = start.elapsed().as_secs_f64() * 1e3;

        let mut client = RawClient::connect(edge.address).await;
        let is_after = |number: usize| numbers.changed.contains(&number) || numbers.opened.contains(&number);
        for number in numbers.changed.clone().chain(numbers.opened.clone()).chain(numbers.closed.clone()) {
            let answer = client.get("/", &circuits::host(number)).await;
            let is_served = answer.status == 200 && answer.body.contains("\"name\":\"after\"");
            assert_eq!(is_served, is_after(number), "circuit {number}: {} {}", answer.status, answer.body);
        }
        edge.settled_snapshot_bytes(QUIET).await;
        let now = Seen::of(&edge).await;
        let touched = |index: usize| json!(now.touched[index] - earlier.touched[index]);
        report.row(vec![
            json!(round + 1),
            json!(args.circuits),
            json!(now.relists - earlier.relists),
            touched(0),
            touched(1),
            touched(2),
            json!(now.events - earlier.events),
            rounded(applied_ms, 0),
            json!(now.snapshot_bytes - earlier.snapshot_bytes),
            json!(earlier.snapshot_bytes),
        ]);
    }
    report.print();
    edge.stop();
}

/// Which circuits change in a round: ten, none of them in another.
struct Numbers {
    changed: Range<usize>,
    opened: Range<usize>,
    closed: Range<usize>,
}

impl Numbers {
    fn of(round: usize, circuits: usize) -> Self {
        let opened = circuits + round * 3;
        let closed = circuits - (round + 1) * 3;
        Self { changed: round * 4..round * 4 + 4, opened: opened..opened + 3, closed: closed..closed + 3 }
    }

    /// Gives some circuits a target, opens some at that target and closes some.
    async fn change(&self, publisher: &Publisher, target: SocketAddr) -> Revision {
        for number in self.changed.clone() {
            // The same life of the circuit, so that it changes where it stands.
            let place = publisher.layout().circuit(&subdomain(number, target).key);
            let (entry, _) = publisher.registry().get(&place).await.expect("etcd answers");
            let state = CircuitState::decode(&entry.expect("it is open").value).expect("our own");
            let CircuitState::Open(mut versioned) = state else { panic!("circuit {number} is closed") };
            versioned.circuit.targets = subdomain(number, target).targets;
            publish(publisher, versioned.circuit, Generation(2)).await;
        }
        for number in self.opened.clone() {
            publish(publisher, subdomain(number, target), Generation(1)).await;
        }
        let mut last = Revision::default();
        for number in self.closed.clone() {
            let key = subdomain(number, target).key;
            last = publisher.publish_closed(&key, Generation(2)).await.expect("etcd takes it").revision();
        }
        last
    }
}

/// What the edge has done so far.
struct Seen {
    relists: f64,
    events: f64,
    snapshot_bytes: f64,
    touched: [usize; 3],
}

impl Seen {
    async fn of(edge: &EdgeProcess) -> Self {
        let log = edge.log();
        Self {
            relists: edge.metric("appproxy_edge_registry_relists_total").await,
            events: edge.metric("appproxy_edge_events_applied_total").await,
            snapshot_bytes: edge.metric("appproxy_edge_snapshot_bytes").await,
            touched: MESSAGES.map(|message| log.lines().filter(|line| line.contains(message)).count()),
        }
    }
}
