//! The generic cell rate algorithm (ITU-T I.371, annex A).
//!
//! Invariant: in any span of time at most `burst` requests more are taken than the rate allows, and one that is not taken
//! changes nothing.

use entities::rate::RateLimit;

/// A rate, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// From one request to the next.
    interval_ns: u64,
    /// How much too early a request may come.
    tolerance_ns: u64,
}

// === impl Pace ===

impl Pace {
    /// That of `rule`.
    pub(super) fn of(rule: &RateLimit) -> Self {
        let interval_ns = rule.requests_per_s.interval_ns();
        // A thousand seconds a million times is half of what 64 bits hold.
        Self { interval_ns, tolerance_ns: interval_ns.saturating_mul(u64::from(rule.burst.saturating_sub(1))) }
    }

    /// When the next request is due if one comes now, or how long until one is taken.
    pub(super) fn take(&self, due_ns: u64, now_ns: u64) -> Result<u64, u64> {
        let due_ns = due_ns.max(now_ns);
        let early_ns = due_ns - now_ns;
        match early_ns.checked_sub(self.tolerance_ns).filter(|too_early_ns| *too_early_ns > 0) {
            Some(too_early_ns) => Err(too_early_ns),
            None => Ok(due_ns.saturating_add(self.interval_ns)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn after_a_pause_a_burst_is_taken_and_then_the_rate() {
        let pace = Pace { interval_ns: 100, tolerance_ns: 200 };
        let mut due_ns = 0;
        let mut taken = Vec::new();
        for now_ns in (1_000..1_500).step_by(10) {
            if let Ok(next_ns) = pace.take(due_ns, now_ns) {
                due_ns = next_ns;
                taken.push(now_ns);
            }
        }
        assert_eq!(taken, [1_000, 1_010, 1_020, 1_100, 1_200, 1_300, 1_400]);
    }

    proptest! {
        #[test]
        fn no_span_of_time_has_more_than_the_rate_and_the_burst(
            interval_ns in 1..50_u64, burst in 1..6_u64, gaps in proptest::collection::vec(0..80_u64, 1..200)
        ) {
            let pace = Pace { interval_ns, tolerance_ns: interval_ns * (burst - 1) };
            let (mut now_ns, mut due_ns, mut taken) = (0, 0, Vec::new());
            for gap in gaps {
                now_ns += gap;
                match pace.take(due_ns, now_ns) {
                    Ok(next_ns) => {
                        due_ns = next_ns;
                        taken.push(now_ns);
                    }
                    // After the wait it is taken, and not a moment earlier.
                    Err(wait_ns) => {
                        prop_assert!(pace.take(due_ns, now_ns + wait_ns).is_ok());
                        prop_assert!(pace.take(due_ns, now_ns + wait_ns - 1).is_err());
                    }
                }
            }
            for (first, from_ns) in taken.iter().enumerate() {
                for (last, to_ns) in taken.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u64;
                    prop_assert!(count <= burst + (to_ns - from_ns) / interval_ns, "{count} from {from_ns} to {to_ns}");
                }
            }
        }
    }
}
