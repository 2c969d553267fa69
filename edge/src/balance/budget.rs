//! How many requests of a circuit may be sent a second time.
//!
//! When a service breaks down, every request that fails is one more to send; without a limit the retries would keep it down.
//! Each request that comes earns a fifth of a retry, as in Finagle's retry budget.
//!
//! Invariant: over any time there are at most [`RESERVE`] retries more than a fifth of the requests.

use std::sync::atomic::{AtomicU32, Ordering};

/// Parts of a retry that one request earns.
const EARNED: u32 = 1;

/// Parts that one retry costs.
const COST: u32 = 5;

/// Retries that a circuit begins with and can save up.
const RESERVE: u32 = 20;

/// The retries that are left, in parts.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicU32);

// === impl RetryBudget ===

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(RESERVE * COST))
    }

    /// A request has come.
    pub(super) fn earn(&self) {
        let full = RESERVE * COST;
        let more = |parts: u32| (parts < full).then(|| (parts + EARNED).min(full));
        // It is full otherwise.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes one retry; `false` if there is none left.
    pub(super) fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |parts| parts.checked_sub(COST)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_ends_when_the_reserve_is_used_up() {
        let budget = RetryBudget::new();
        let spent = (0..10_000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(spent.count(), 2_019, "a fifth of 10,000, and the reserve");
    }

    #[test]
    fn what_is_saved_up_has_a_limit() {
        let budget = RetryBudget::new();
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 20);
    }
}
