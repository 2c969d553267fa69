//! What finding the circuit's name in a request costs.

use std::hint::black_box;

use criterion::Criterion;
use entities::host::split_host_header;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split_host_header");
    let cases =
        [("as browsers send it", "jupyter-00001.apps.localhost:6130"), ("upper case", "JUPYTER-1.Apps.Localhost")];
    for (name, value) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter(|| split_host_header(black_box(value)).map(|(host, _)| host.len()))
        });
    }
    group.finish();
}
