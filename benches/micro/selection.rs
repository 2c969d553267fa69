//! What choosing one of several targets costs, by strategy.

use criterion::Criterion;
use edge::balance::selection::Selection;
use entities::balance::Strategy;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("selection");
    for (word, strategy) in Strategy::WORDS {
        for count in [2, 10, 128] {
            let weights: Vec<u16> = (0..count).map(|index| 1 + index % 5).collect();
            let selection = Selection::of_weights(strategy, &weights);
            group.bench_function(format!("{word}, {count} targets"), |bencher| bencher.iter(|| selection.choose()));
        }
    }
    group.finish();
}
