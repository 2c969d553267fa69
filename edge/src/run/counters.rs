//! The counters of all rooms, registered in one place.
//!
//! Invariant: names, labels and help texts are those of `metrics.txt`, which is a contract with dashboards and alerts. A new
//! counter of a room touches that room's declaration and `metrics.txt`, and nothing here.

use std::sync::Arc;

use crate::api::{ApiMetrics, StatusGauges};
use crate::balance::TargetMetrics;
use crate::health::HealthMetrics;
use crate::listen::ConnectionMetrics;
use crate::memory::MemoryMetrics;
use crate::metrics::Metrics;
use crate::record::RecordMetrics;
use crate::registration::Load;
use crate::snapshot::SnapshotMetrics;
use crate::sync::SyncMetrics;
use crate::tcp::relay::RelayMetrics;
use crate::tunnel::TunnelMetrics;

/// What one edge counts.
pub(super) struct Counters {
    metrics: Metrics,
    pub(super) api: Arc<ApiMetrics>,
    pub(super) connections: Arc<ConnectionMetrics>,
    pub(super) health: Arc<HealthMetrics>,
    pub(super) memory: Arc<MemoryMetrics>,
    pub(super) records: Arc<RecordMetrics>,
    pub(super) relays: Arc<RelayMetrics>,
    pub(super) snapshot: Arc<SnapshotMetrics>,
    pub(super) sync: Arc<SyncMetrics>,
    pub(super) targets: Arc<TargetMetrics>,
    pub(super) tunnels: Arc<TunnelMetrics>,
}

// === impl Counters ===

impl Counters {
    /// All of them, at zero.
    pub(super) fn register() -> Result<Self, prometheus::Error> {
        let metrics = Metrics::default();
        Ok(Self {
            api: ApiMetrics::register(&metrics)?,
            connections: ConnectionMetrics::register(&metrics)?,
            health: HealthMetrics::register(&metrics)?,
            memory: MemoryMetrics::register(&metrics)?,
            records: RecordMetrics::register(&metrics)?,
            relays: RelayMetrics::register(&metrics)?,
            snapshot: SnapshotMetrics::register(&metrics)?,
            sync: SyncMetrics::register(&metrics)?,
            targets: TargetMetrics::register(&metrics)?,
            tunnels: TunnelMetrics::register(&metrics)?,
            metrics,
        })
    }

    /// What the coordinator hears of the edge's load.
    pub(super) fn load(&self) -> Load {
        Load { circuits: self.sync.circuits.clone(), connections: self.connections.open.clone() }
    }

    /// What the worker API shows.
    pub(super) fn of_api(&self) -> (Metrics, Arc<ApiMetrics>, StatusGauges) {
        let gauges = StatusGauges {
            circuits: self.sync.circuits.clone(),
            ports_open: self.sync.ports_open.clone(),
            connections_open: self.connections.open.clone(),
            resident_bytes: self.memory.resident_bytes.clone(),
            snapshot_bytes: self.snapshot.bytes.clone(),
        };
        (self.metrics.clone(), Arc::clone(&self.api), gauges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_are_those_of_the_committed_list() {
        let lines = Counters::register().expect("names are valid").metrics.lines();
        let committed: Vec<&str> =
            include_str!("../../metrics.txt").lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, committed, "metrics.txt should be:\n{}", lines.join("\n"));
    }
}
