//! What a write in the in-process registry costs until its watch has it.

use benches::circuits::{self, Mode};
use benches::process::port_range;
use criterion::Criterion;
use entities::ids::Revision;
use entities::registry::layout::Layout;
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Expected, Registry as _, Swap, Watch};
use tokio::runtime::{Builder, Runtime};

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("registry");
    for present in [100, 50_000] {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let mut written = Written::new(&runtime, present);
        group.bench_function(format!("put and watch, present: {present}"), |bencher| {
            bencher.iter(|| runtime.block_on(written.once()));
        });
    }
    group.finish();
}

/// A registry with one key that is written again and again.
struct Written {
    registry: MemoryRegistry,
    watch: Watch,
    key: String,
    value: Vec<u8>,
    at: Revision,
}

// === impl Written ===

impl Written {
    fn new(runtime: &Runtime, present: usize) -> Self {
        runtime.block_on(async {
            let registry = MemoryRegistry::new();
            let layout = Layout::default();
            let target = "10.0.0.5:8888".parse().expect("valid");
            let mut last = (String::new(), Vec::new(), Revision::default());
            for number in 0..present {
                let circuit = circuits::circuit(Mode::Subdomain, number, port_range(), target);
                let key = layout.circuit(&circuit.key);
                let value = circuits::state(circuit).encode().expect("fits");
                let at = put(&registry, &key, Expected::Absent, value.clone()).await;
                last = (key, value, at);
            }
            let (key, value, at) = last;
            let watch = registry.watch(&layout.root(), at.next()).await.expect("in memory");
            Self { registry, watch, key, value, at }
        })
    }

    async fn once(&mut self) -> usize {
        self.at = put(&self.registry, &self.key, Expected::At(self.at), self.value.clone()).await;
        self.watch.next().await.expect("the watch goes on").events.len()
    }
}

async fn put(registry: &MemoryRegistry, key: &str, expected: Expected, value: Vec<u8>) -> Revision {
    match registry.put(key, expected, value, None).await.expect("in memory") {
        Swap::Done(revision) => revision,
        Swap::Conflict => panic!("nobody else writes"),
    }
}
