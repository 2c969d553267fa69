//! Keeps the process below its memory ceiling: near it new connections are turned away before open ones suffer.
//!
//! Invariant: nothing that is open is ended for want of memory; what it says is at most one interval old.

mod ceiling;
mod pressure;

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::{Gauge, as_gauge, metrics};
pub use ceiling::ceiling_of_control_group;
use pressure::Pressure;

metrics! {
    /// What is known of memory.
    pub(crate) struct MemoryMetrics {
        resident_bytes: Gauge = ("resident_bytes", "Memory that the process takes"),
        ceiling_bytes: Gauge = ("memory_ceiling_bytes", "Memory that it may take; 0 for no ceiling"),
        shedding: Gauge = ("shedding", "Whether new connections are turned away for want of memory"),
    }
}

/// How much memory the process may take.
#[derive(Clone)]
pub struct MemoryRules {
    /// So much; without it, whatever there is.
    pub ceiling_bytes: Option<u64>,
    /// How often one looks. What connections can take in that time must fit into the last tenth.
    pub check_interval: Duration,
    /// Tells how much is resident now.
    pub resident: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
}

/// How near the ceiling is.
pub(crate) struct Memory {
    rules: MemoryRules,
    pressure: Mutex<Pressure>,
    /// The same as a number, to be read for each request.
    level: AtomicU64,
    metrics: Arc<MemoryMetrics>,
}

// === impl MemoryRules ===

impl Default for MemoryRules {
    /// No ceiling.
    fn default() -> Self {
        Self { ceiling_bytes: None, check_interval: Duration::from_secs(1), resident: Arc::new(resident) }
    }
}

impl fmt::Debug for MemoryRules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ceiling_bytes, check_interval, resident: _ } = self;
        formatter
            .debug_struct("MemoryRules")
            .field("ceiling_bytes", ceiling_bytes)
            .field("check_interval", check_interval)
            .finish_non_exhaustive()
    }
}

// === impl Memory ===

impl Memory {
    /// Has looked once.
    pub(crate) fn new(rules: MemoryRules, metrics: Arc<MemoryMetrics>) -> Self {
        let memory =
            Self { rules, pressure: Mutex::new(Pressure::None), level: AtomicU64::new(Pressure::None as u64), metrics };
        memory.look();
        memory
    }

    /// Looks again and again.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut ticks = interval(self.rules.check_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    /// Whether connections should not be kept for a next request.
    pub(crate) fn is_tight(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= Pressure::Tight as u64
    }

    /// Whether new connections are turned away.
    pub(crate) fn is_shedding(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= Pressure::Shedding as u64
    }

    /// The ceiling, if there is one.
    pub(crate) fn ceiling_bytes(&self) -> Option<u64> {
        self.rules.ceiling_bytes
    }

    fn look(&self) {
        // A system that does not say it leaves things as they are.
        let Some(resident_bytes) = (self.rules.resident)() else { return };
        self.metrics.resident_bytes.set(as_gauge(resident_bytes));
        let Some(ceiling_bytes) = self.rules.ceiling_bytes else { return };
        self.metrics.ceiling_bytes.set(as_gauge(ceiling_bytes));
        let mut pressure = self.pressure.lock();
        let next = pressure.next(resident_bytes, ceiling_bytes);
        if next != *pressure {
            let is_worse = next > *pressure;
            *pressure = next;
            self.level.store(next as u64, Ordering::Relaxed);
            self.metrics.shedding.set(i64::from(next == Pressure::Shedding));
            if is_worse {
                tracing::warn!(resident_bytes, ceiling_bytes, state = next.as_str(), "memory runs out");
            } else {
                tracing::info!(resident_bytes, ceiling_bytes, state = next.as_str(), "there is memory again");
            }
        }
    }
}

/// What Linux says about this process.
fn resident() -> Option<u64> {
    resident_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_how_much_is_resident() {
        assert_eq!(resident_in("Name:\tedge\nVmHWM:\t  900 kB\nVmRSS:\t  812 kB\n"), Some(812 * 1024));
        assert_eq!(resident_in("Name:\tedge\n"), None);
        assert!(resident().is_some_and(|bytes| bytes > 100 * 1024));
    }
}
