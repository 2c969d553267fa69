//! How fast the content of a request must come.
//!
//! Invariant: time alone never makes a client slow while it is given time to begin, and content that came fast pays for a pause
//! later: a target that takes its time with a large upload is not its client's fault.

use std::time::{Duration, Instant};

/// The content of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    /// Content begins to come.
    pub(crate) fn begin(now: Instant) -> Self {
        Self { began: now, bytes: 0 }
    }

    /// So many bytes have come; whether that is less than `least_per_s` on average, after the time of `grace`.
    pub(crate) fn note(&mut self, bytes: usize, now: Instant, grace: Duration, least_per_s: u64) -> bool {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let elapsed = now.saturating_duration_since(self.began);
        elapsed > grace && self.bytes < elapsed.as_secs().saturating_mul(least_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    /// After how many seconds content that comes as `bytes` each `every_s` is too slow.
    fn cut_after(bytes: usize, every_s: u64, least_per_s: u64) -> Option<u64> {
        let began = Instant::now();
        let mut pace = Pace::begin(began);
        (0..10_000)
            .step_by(every_s as usize)
            .find(|second| pace.note(bytes, began + Duration::from_secs(*second), GRACE, least_per_s))
    }

    #[test]
    fn a_byte_each_ten_seconds_is_too_slow_after_a_minute() {
        assert_eq!(cut_after(1, 10, 16), Some(70));
    }

    #[test]
    fn a_line_now_and_then_is_fast_enough_and_any_pace_where_none_is_asked() {
        assert_eq!(cut_after(200, 10, 16), None);
        assert_eq!(cut_after(1, 50, 0), None);
    }

    #[test]
    fn what_came_fast_pays_for_a_pause() {
        let began = Instant::now();
        let mut pace = Pace::begin(began);
        assert!(!pace.note(1_000_000, began, GRACE, 16));
        assert!(!pace.note(1, began + Duration::from_secs(3_600), GRACE, 16));
    }
}
