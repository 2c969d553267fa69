//! Opening circuits in a cluster that has many, and how soon a written circuit is served at two edges.
//!
//! Invariant: a circuit counts as served when both edges have answered `200` to a request for its host, and the clock
//! starts before the publisher asks etcd anything.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use benches::asker::Asker;
use benches::circuits;
use benches::cluster::Cluster;
use benches::edge_process::{EdgeProcess, two_addresses};
use benches::filled_etcd::{EtcdChoice, FilledEtcd, publish, subdomain};
use benches::report::Report;
use benches::samples::Samples;
use coordinator::publish::Publisher;
use entities::circuit::Versioned;
use entities::ids::Generation;
use entities::registry::layout::CircuitState;
use entities::registry::{Expected, Registry as _};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;

use crate::open::fsyncs;

/// Options of `load cluster-served`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Circuits that are there before.
    #[arg(long, default_value_t = 10_000)]
    present: usize,
    /// Circuits to open through the API.
    #[arg(long, default_value_t = 500)]
    opens: usize,
    /// Circuits to write into etcd, in each of two ways of looking.
    #[arg(long, default_value_t = 1_000)]
    writes: usize,
    #[command(flatten)]
    etcd: EtcdChoice,
}

/// Two edges and whoever looks at them.
struct Watched {
    edges: Vec<EdgeProcess>,
    clients: Vec<RawClient>,
    askers: Vec<Asker>,
    publisher: Publisher,
    filled: FilledEtcd,
    target: SocketAddr,
}

/// How long the steps took from the start of publishing.
#[derive(Default)]
struct Times {
    bare: Samples,
    published: Samples,
    applied: Samples,
    answered: Samples,
    after_published: Samples,
    value_bytes: usize,
}

pub(crate) async fn run(args: Args) {
    let origin = Origin::start("origin").await;
    let mut report = Report::of_latencies("cluster-served");
    let choice = args.etcd.name();
    open(&args, origin.address(), &mut report).await;

    let dir = tempfile::tempdir().expect("a folder");
    let mut watched = Watched::start(&args, dir.path(), origin.address()).await;
    let asked = watched.measure(args.present, args.writes, Watched::ask).await;
    let spun = watched.measure(args.present + args.writes, args.writes, Watched::spin).await;
    let present = args.present;
    report.latency(&format!("{choice}: bare compare-and-swap of {} bytes", asked.value_bytes), &asked.bare);
    report.latency("publisher: get, fenced compare-and-swap", &asked.published);
    report.latency(&format!("written → applied at both, {present} present"), &asked.applied);
    report.latency("then the first 200 at both", &asked.answered);
    report.latency("the same without the publisher's share", &asked.after_published);
    report.latency("written → first 200 at both, asking all the time", &spun.answered);
    report.latency("the same without the publisher's share", &spun.after_published);
    report.print();
}

/// `POST /v2/circuits` in a whole cluster, one at a time.
async fn open(args: &Args, target: SocketAddr, report: &mut Report) {
    let mut cluster = Cluster::start(args.etcd).await;
    report.latency("one fsync of 4 KiB in that folder", &fsyncs(cluster.dir(), 200));
    if args.present > 0 {
        let filled = cluster.fill(args.present, target).await;
        report.latency(&format!("storing {} circuits, 8 at a time", args.present), &once(filled.stored_in));
        report.latency(&format!("coordinator's start → {} published", args.present), &once(filled.published_in));
    }
    let client = testkit::client::keep_alive_client();
    let mut samples = Samples::default();
    for number in 0..args.opens {
        samples.add(cluster.open(&client, &format!("opened-{number}"), target).await);
    }
    report.latency(&format!("POST → 201 (both edges), {} present", args.present), &samples);
}

fn once(time: Duration) -> Samples {
    let mut samples = Samples::default();
    samples.add(time);
    samples
}

// === impl Watched ===

impl Watched {
    async fn start(args: &Args, dir: &Path, target: SocketAddr) -> Self {
        let filled = FilledEtcd::start(args.etcd, args.present, target).await;
        let (mut edges, mut clients, mut askers) = (Vec::new(), Vec::new(), Vec::new());
        for (name, address) in ["edge-1", "edge-2"].into_iter().zip(two_addresses(free_port())) {
            let edge = EdgeProcess::start(dir, &filled.edge(name, "main", address)).await;
            clients.push(RawClient::connect(address).await);
            askers.push(edge.asker().await);
            edges.push(edge);
        }
        let publisher = filled.publisher().await;
        Self { edges, clients, askers, publisher, filled, target }
    }

    /// Writes circuits one after the other, each beside a bare write, and looks at them with `look`.
    async fn measure(&mut self, first: usize, count: usize, look: impl AsyncFn(&mut Self, usize, &mut Times)) -> Times {
        let registry = self.filled.etcd.registry();
        let mut times = Times::default();
        for number in first..first + count {
            let circuit = subdomain(number, self.target);
            let state = CircuitState::Open(Box::new(Versioned { generation: Generation(1), circuit }));
            let value = state.encode().expect("fits");
            times.value_bytes = value.len();
            let start = Instant::now();
            registry.put(&format!("/bare/{number}"), Expected::Absent, value, None).await.expect("etcd answers");
            times.bare.add(start.elapsed());
            look(self, number, &mut times).await;
        }
        for edge in &self.edges {
            let circuits = edge.metric("appproxy_edge_circuits").await;
            assert_eq!(circuits, (first + count) as f64, "an edge serves what was written");
        }
        times
    }

    /// Waits for both edges to say that they have applied it, and then asks each once: little work beside theirs.
    async fn ask(&mut self, number: usize, times: &mut Times) {
        let host = circuits::host(number);
        let start = Instant::now();
        let revision = publish(&self.publisher, subdomain(number, self.target), Generation(1)).await;
        let published = start.elapsed();
        let epoch = self.filled.epoch();
        let [one, other] = &mut self.askers[..] else { unreachable!("there are two") };
        tokio::join!(one.wait_applied(epoch, revision), other.wait_applied(epoch, revision));
        times.applied.add(start.elapsed());
        let [one, other] = &mut self.clients[..] else { unreachable!("there are two") };
        let answers = tokio::join!(one.get("/", &host), other.get("/", &host));
        times.add(published, start.elapsed());
        assert_eq!((answers.0.status, answers.1.status), (200, 200), "{host}");
    }

    /// Asks both edges for the host all the time, from before it is written.
    async fn spin(&mut self, number: usize, times: &mut Times) {
        let host = circuits::host(number);
        let circuit = subdomain(number, self.target);
        let [one, other] = &mut self.clients[..] else { unreachable!("there are two") };
        let start = Instant::now();
        let publishing = async {
            publish(&self.publisher, circuit, Generation(1)).await;
            start.elapsed()
        };
        let served = async |client: &mut RawClient| {
            while client.get("/", &host).await.status != 200 {}
            start.elapsed()
        };
        let (published, first, second) = tokio::join!(publishing, served(one), served(other));
        times.add(published, first.max(second));
    }
}

// === impl Times ===

impl Times {
    fn add(&mut self, published: Duration, answered: Duration) {
        self.published.add(published);
        self.answered.add(answered);
        // An edge may hear of it before the publisher does.
        self.after_published.add(answered.saturating_sub(published));
    }
}
