//! Lets open connections of closed circuits, and at targets that were taken away, go on for the drain time, then cuts them.
//!
//! Invariant: every life that is handed over ends: at once if nothing of it is open, else after the drain time. A target that
//! gets new requests again before its time is over is left alone.

use std::sync::Arc;
use std::time::Duration;

use entities::ids::CircuitKey;
use tokio::task::JoinSet;

use super::SyncMetrics;
use crate::circuit::{Lifetime, LiveCircuit};
use crate::slot::Slot;
use crate::table::Table;

/// Lives on their way out; dropping it forgets them.
pub(super) struct Drains {
    table: Arc<Table>,
    waiting: JoinSet<()>,
    metrics: Arc<SyncMetrics>,
}

// === impl Drains ===

impl Drains {
    pub(super) fn new(table: Arc<Table>, metrics: Arc<SyncMetrics>) -> Self {
        Self { table, waiting: JoinSet::new(), metrics }
    }

    /// The circuit is closed: nothing new comes to it.
    pub(super) fn begin(&mut self, circuit: &LiveCircuit) {
        self.tidy();
        let lifetime = Arc::clone(&circuit.lifetime);
        if lifetime.end_if_idle() {
            return;
        }
        let (key, drain_time, metrics) = (circuit.key.clone(), circuit.limits.drain, Arc::clone(&self.metrics));
        self.waiting.spawn(async move {
            tokio::time::sleep(drain_time).await;
            note_cut(&metrics, &key, lifetime.end());
        });
    }

    /// The circuit has changed: nothing new comes to these targets of its.
    pub(super) fn let_go(&mut self, circuit: &LiveCircuit, targets: Vec<u64>) {
        self.tidy();
        if targets.is_empty() {
            return;
        }
        let drain = TargetDrain {
            key: circuit.key.clone(),
            slot: circuit.slot.clone(),
            lifetime: Arc::clone(&circuit.lifetime),
            targets,
            drain_time: circuit.limits.drain,
        };
        self.waiting.spawn(drain.run(Arc::clone(&self.table), Arc::clone(&self.metrics)));
    }

    fn tidy(&mut self) {
        while self.waiting.try_join_next().is_some() {}
    }
}

/// Targets on their way out.
struct TargetDrain {
    key: CircuitKey,
    slot: Slot,
    lifetime: Arc<Lifetime>,
    targets: Vec<u64>,
    drain_time: Duration,
}

// === impl TargetDrain ===

impl TargetDrain {
    async fn run(self, table: Arc<Table>, metrics: Arc<SyncMetrics>) {
        tokio::time::sleep(self.drain_time).await;
        let current = table.get(&self.slot).filter(|circuit| Arc::ptr_eq(&circuit.lifetime, &self.lifetime));
        for target in self.targets {
            if !current.as_ref().is_some_and(|circuit| circuit.balancer.serves(target)) {
                note_cut(&metrics, &self.key, self.lifetime.cut_at(target));
            }
        }
    }
}

fn note_cut(metrics: &SyncMetrics, key: &CircuitKey, cut: usize) {
    if cut > 0 {
        metrics.drains_cut.inc_by(cut as u64);
        tracing::info!(%key, cut, "the drain time is over, cut what was still open");
    }
}
