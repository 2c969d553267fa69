//! What finding a port costs when nine of ten are taken.

use std::collections::HashSet;

use coordinator::slots::find_free;
use criterion::Criterion;
use entities::authority::PortRange;
use entities::ids::Port;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find_free");
    for range in ["30000-30999", "20000-29999"] {
        let range: PortRange = range.parse().expect("valid");
        // The same ports and the same starting points in every run.
        let mut rng = StdRng::seed_from_u64(6_130);
        let mut ports: Vec<Port> = (0..range.len()).map(|index| range.at(index)).collect();
        ports.shuffle(&mut rng);
        let taken: HashSet<Port> = ports.iter().take(ports.len() / 10 * 9).copied().collect();
        group.bench_function(format!("90 % of {} taken", range.len()), |bencher| {
            bencher.iter(|| find_free(range, |port| taken.contains(&port), &mut rng));
        });
    }
    group.finish();
}
