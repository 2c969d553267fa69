//! What it costs to change one target of one circuit, by how many circuits there are.
//!
//! Invariant: nothing else happens in the process, so its processor time is that of the changes: the write into the registry in
//! memory, the edge, and asking the edge whether it has applied it.

use std::net::SocketAddr;
use std::time::Instant;

use benches::circuits::{self, Mode};
use benches::in_process::{FilledRegistry, InProcessEdge};
use benches::process::{family_cpu_s, port_range};
use benches::report::{Report, rounded};
use benches::samples::Samples;
use serde_json::json;

/// Options of `load changes`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Numbers of circuits.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 50_000])]
    circuits: Vec<usize>,
    /// Changes.
    #[arg(long, default_value_t = 2_000)]
    changes: usize,
}

pub(crate) async fn run(args: Args) {
    let mut report = Report::new("changes", &["circuits", "changes", "p50_ms", "p99_ms", "cpu_us_each"]);
    for count in args.circuits {
        let target = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let states: Vec<_> = (0..count)
            .map(|number| {
                let mut circuit = circuits::circuit(Mode::Subdomain, number, port_range(), target(8_000));
                circuit.targets.push(circuits::target_of(target(8_001)));
                circuit
            })
            .collect();
        let changing = states[count / 2].clone();
        let mut edge = InProcessEdge::start(FilledRegistry::new(states.into_iter().map(circuits::state)).await).await;
        let (mut times, cpu) = (Samples::default(), family_cpu_s(std::process::id()));
        for number in 0..args.changes {
            let mut circuit = changing.clone();
            circuit.targets[1] = circuits::target_of(target(u16::try_from(9_000 + number % 1_000).expect("a port")));
            let start = Instant::now();
            let revision = edge.change(circuit, number as u64 + 2).await;
            edge.wait_applied(revision).await;
            times.add(start.elapsed());
        }
        let cpu_us = (family_cpu_s(std::process::id()) - cpu) * 1e6 / args.changes as f64;
        report.row(vec![
            json!(count),
            json!(args.changes),
            rounded(times.quantile_ms(0.5), 3),
            rounded(times.quantile_ms(0.99), 3),
            rounded(cpu_us, 0),
        ]);
    }
    report.print();
}
