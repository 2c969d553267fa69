//! From a write in the registry to the first answer at an edge.
//!
//! Invariant: the clock starts before the write and is read after `/v2/sync` has said that the revision is applied,
//! and again after the first request to the circuit has brought a `200`.

use std::time::Instant;

use benches::circuits::{self, Mode};
use benches::in_process::{FilledRegistry, InProcessEdge};
use benches::process::{PORT_ADDRESS, port_range};
use benches::report::Report;
use benches::samples::Samples;
use testkit::origin::Origin;
use testkit::raw::RawClient;

/// Options of `load served`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Subdomain circuits that are there before.
    #[arg(long, default_value_t = 10_000)]
    present: usize,
    /// Circuits of each kind to write.
    #[arg(long, default_value_t = 1_000)]
    writes: usize,
}

/// How long one kind of circuit took.
#[derive(Default)]
struct Times {
    applied: Samples,
    answered: Samples,
}

pub(crate) async fn run(args: Args) {
    let origin = Origin::start("origin").await;
    let target = origin.address();
    let present = (0..args.present)
        .map(|number| circuits::state(circuits::circuit(Mode::Subdomain, number, port_range(), target)));
    let mut edge = InProcessEdge::start(FilledRegistry::new(present).await).await;

    let mut report = Report::of_latencies("served");
    let mut client = RawClient::connect(edge.address).await;
    let (mut subdomains, mut ports) = (Times::default(), Times::default());
    for number in 0..args.writes {
        let number = args.present + number;
        let host = circuits::host(number);
        let circuit = circuits::circuit(Mode::Subdomain, number, port_range(), target);
        let state = circuits::state(circuit);
        let start = Instant::now();
        let revision = edge.put(&state).await;
        edge.wait_applied(revision).await;
        subdomains.applied.add(start.elapsed());
        let answer = client.get("/", &host).await;
        subdomains.answered.add(start.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.body);

        let number = number - args.present;
        let port = port_range().at(u32::try_from(number).expect("a port's number"));
        let state = circuits::state(circuits::circuit(Mode::Port, number, port_range(), target));
        let start = Instant::now();
        let revision = edge.put(&state).await;
        edge.wait_applied(revision).await;
        ports.applied.add(start.elapsed());
        let mut on_port = RawClient::connect((PORT_ADDRESS, port.number()).into()).await;
        let answer = on_port.get("/", "localhost").await;
        ports.answered.add(start.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    for (kind, times) in [("subdomain", subdomains), ("port", ports)] {
        report.latency(&format!("{kind}: written → applied, {} present", args.present), &times.applied);
        report.latency(&format!("{kind}: written → first 200, {} present", args.present), &times.answered);
    }
    report.print();
}
