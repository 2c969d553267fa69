//! How long to wait before trying again what failed.
//!
//! Invariant: a wait is never longer than the limit, and two edges that fail together do not come back together.

use std::time::Duration;

/// Doubling waits with jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits that start at `first` and double up to `limit`.
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    /// After a success the next failure waits the first time again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The wait after this failure: between half of the current step and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.limit);
        step.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_over_after_a_success() {
        let (first, limit) = (Duration::from_millis(100), Duration::from_millis(350));
        let mut backoff = Backoff::new(first, limit);
        for step_ms in [100, 200, 350, 350] {
            let step = Duration::from_millis(step_ms);
            let wait = backoff.next();
            assert!(step / 2 <= wait && wait <= step, "{wait:?} for a step of {step:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= first);
    }
}
