//! What a change of a circuit costs to write and to read.

use std::hint::black_box;

use benches::circuits::{self, Mode};
use benches::process::port_range;
use criterion::Criterion;
use entities::registry::layout::CircuitState;

pub(crate) fn measure(criterion: &mut Criterion) {
    let target = "10.0.0.5:8888".parse().expect("valid");
    let mut group = criterion.benchmark_group("envelope");
    for targets in [1, 16] {
        let mut circuit = circuits::circuit(Mode::Subdomain, 1, port_range(), target);
        circuit.targets = vec![circuit.targets[0].clone(); targets];
        let state = circuits::state(circuit);
        let value = state.encode().expect("fits");
        let name = |what: &str| format!("{what}, targets: {targets}");
        group.bench_function(name("encode"), |bencher| bencher.iter(|| black_box(&state).encode().expect("fits")));
        group.bench_function(name("decode"), |bencher| {
            bencher.iter(|| CircuitState::decode(black_box(&value)).expect("reads"));
        });
    }
    group.finish();
}
