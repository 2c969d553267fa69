//! What the probes of one check say about an address.
//!
//! Invariant: one success makes it be up, as many failures in a row as the check says make it be down, and before the first
//! success failures do not count while the start-up grace lasts.

use std::time::Duration;

use entities::health_check::HealthCheck;
use tokio::time::Instant;

/// How far one check is with an address.
#[derive(Debug)]
pub(super) struct CheckState {
    /// When it was first seen.
    since: Instant,
    /// Failures since the last success.
    failures: u8,
    /// `None` while nothing is known.
    is_up: Option<bool>,
}

// === impl CheckState ===

impl CheckState {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, failures: 0, is_up: None }
    }

    /// Takes the outcome of a probe; `true` if something else is known now.
    pub(super) fn record(&mut self, check: &HealthCheck, is_success: bool, now: Instant) -> bool {
        let before = self.is_up;
        if is_success {
            self.failures = 0;
            self.is_up = Some(true);
        } else if self.is_up.is_some() || now.saturating_duration_since(self.since) >= grace(check) {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= check.retries {
                self.is_up = Some(false);
            }
        }
        self.is_up != before
    }

    /// Whether the address works, if that is known.
    pub(super) fn is_up(&self) -> Option<bool> {
        self.is_up
    }
}

fn grace(check: &HealthCheck) -> Duration {
    Duration::from_secs(check.grace_s.into())
}

#[cfg(test)]
mod tests {
    use entities::health_check::CheckType;

    use super::*;

    fn check(grace_s: u16) -> HealthCheck {
        HealthCheck {
            kind: CheckType::Tcp,
            path: None,
            expected_status: Vec::new(),
            interval_s: 5,
            timeout_s: 2,
            retries: 3,
            grace_s,
        }
    }

    #[test]
    fn three_failures_in_a_row_are_down_and_one_success_is_up() {
        let (check, now) = (check(0), Instant::now());
        let mut state = CheckState::new(now);
        let outcomes = [true, false, false, true, false, false, false, false, true];
        let known: Vec<bool> = outcomes.iter().map(|outcome| state.record(&check, *outcome, now)).collect();
        assert_eq!(known, [true, false, false, false, false, false, true, false, true]);
        assert_eq!(state.is_up(), Some(true));
    }

    #[test]
    fn what_is_starting_is_not_down_until_its_grace_is_over() {
        let (check, start) = (check(30), Instant::now());
        let mut state = CheckState::new(start);
        for second in 0..30 {
            assert!(!state.record(&check, false, start + Duration::from_secs(second)));
        }
        let later = start + Duration::from_secs(30);
        assert_eq!([(); 3].map(|()| state.record(&check, false, later)), [false, false, true]);
        assert_eq!(state.is_up(), Some(false));
    }

    #[test]
    fn the_first_success_ends_the_grace() {
        let (check, now) = (check(3_600), Instant::now());
        let mut state = CheckState::new(now);
        state.record(&check, true, now);
        assert_eq!([(); 3].map(|()| state.record(&check, false, now)), [false, false, true]);
    }
}
