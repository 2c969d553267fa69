//! Lets open connections of closed circuits go on for the drain time, then cuts them.
//!
//! Invariant: every life that is handed over ends: at once if nothing of it is open, else after the drain time.

use std::sync::Arc;
use std::time::Duration;

use entities::ids::CircuitKey;
use tokio::task::JoinSet;

use crate::circuit::Lifetime;
use crate::metrics::Metrics;

/// Lives on their way out; dropping it forgets them.
pub(super) struct Drains {
    drain_time: Duration,
    waiting: JoinSet<()>,
    metrics: Arc<Metrics>,
}

// === impl Drains ===

impl Drains {
    pub(super) fn new(drain_time: Duration, metrics: Arc<Metrics>) -> Self {
        Self { drain_time, waiting: JoinSet::new(), metrics }
    }

    /// The circuit is closed: nothing new comes to `lifetime`.
    pub(super) fn begin(&mut self, key: CircuitKey, lifetime: Arc<Lifetime>) {
        while self.waiting.try_join_next().is_some() {}
        if lifetime.end_if_idle() {
            return;
        }
        let (drain_time, metrics) = (self.drain_time, Arc::clone(&self.metrics));
        self.waiting.spawn(async move {
            tokio::time::sleep(drain_time).await;
            let cut = lifetime.end();
            if cut > 0 {
                metrics.drains_cut.inc_by(cut as u64);
                tracing::info!(%key, cut, "the drain time is over, cut what was still open");
            }
        });
    }
}
