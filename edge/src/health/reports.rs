//! What the coordinator has not been told yet about targets.
//!
//! Invariant: for each target of each circuit only the latest is kept, so this never holds more than the edge has targets,
//! and what could not be told comes back unless something newer has been learnt since.

use std::collections::HashMap;

use entities::ids::CircuitId;
use entities::worker::TargetReport;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Address;

/// News about targets.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    news: Mutex<HashMap<(CircuitId, Address), Option<bool>>>,
    arrived: Notify,
}

// === impl Reports ===

impl Reports {
    /// This is known now about a target of a circuit; `None` if nothing is.
    pub(super) fn push(&self, circuit: CircuitId, address: &Address, healthy: Option<bool>) {
        self.news.lock().insert((circuit, address.clone()), healthy);
        self.arrived.notify_one();
    }

    /// Waits until there are news.
    pub(crate) async fn arrived(&self) {
        while self.news.lock().is_empty() {
            self.arrived.notified().await;
        }
    }

    /// At most `limit` news.
    pub(crate) fn take(&self, limit: usize) -> Vec<TargetReport> {
        let mut news = self.news.lock();
        let keys: Vec<_> = news.keys().take(limit).cloned().collect();
        let report = |key: (CircuitId, Address)| {
            let healthy = news.remove(&key)?;
            let (circuit_id, Address { host, port }) = key;
            Some(TargetReport { circuit_id, host, port, healthy })
        };
        keys.into_iter().filter_map(report).collect()
    }

    /// These could not be told.
    pub(crate) fn give_back(&self, reports: Vec<TargetReport>) {
        let mut news = self.news.lock();
        for TargetReport { circuit_id, host, port, healthy } in reports {
            news.entry((circuit_id, Address { host, port })).or_insert(healthy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address { host: "10.0.0.1".parse().expect("valid"), port: port.try_into().expect("valid") }
    }

    #[test]
    fn only_the_latest_is_told_and_what_was_not_heard_is_told_again() {
        let (reports, circuit) = (Reports::default(), CircuitId::random());
        reports.push(circuit, &address(1), Some(false));
        reports.push(circuit, &address(1), Some(true));
        reports.push(circuit, &address(2), Some(false));
        let mut taken = reports.take(10);
        taken.sort_by_key(|report| report.port.number());
        assert_eq!(taken.iter().map(|report| report.healthy).collect::<Vec<_>>(), [Some(true), Some(false)]);
        assert!(reports.take(10).is_empty());
        reports.push(circuit, &address(1), None);
        reports.give_back(taken);
        let mut again = reports.take(10);
        again.sort_by_key(|report| report.port.number());
        assert_eq!(again.iter().map(|report| report.healthy).collect::<Vec<_>>(), [None, Some(false)]);
    }

    #[test]
    fn a_report_has_a_limit() {
        let (reports, circuit) = (Reports::default(), CircuitId::random());
        (1..=5).for_each(|port| reports.push(circuit, &address(port), Some(true)));
        assert_eq!([reports.take(3).len(), reports.take(3).len(), reports.take(3).len()], [3, 2, 0]);
    }
}
