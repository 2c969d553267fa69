//! Who is lost.
//!
//! Invariant: pure. Nobody is judged before this process has itself been there for a whole window: a coordinator that
//! was away must not take everybody for dead.

use std::time::Duration;

use entities::worker::WorkerStatus;

/// How long ago the last sign of life was, a heartbeat or an answer.
pub(super) fn silence(now_ms: i64, seen_at_ms: i64, answered: Option<Duration>) -> Duration {
    let since_seen = Duration::from_millis(u64::try_from(now_ms.saturating_sub(seen_at_ms)).unwrap_or(0));
    answered.map_or(since_seen, |answered| answered.min(since_seen))
}

/// The status after `silence`.
pub(super) fn judge(
    status: WorkerStatus,
    silence: Duration,
    watched_for: Duration,
    lost_after: Duration,
) -> WorkerStatus {
    let may_judge = watched_for >= lost_after;
    if may_judge && silence >= lost_after { WorkerStatus::Lost } else { status }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    #[test]
    fn silence_for_a_window_is_loss() {
        assert_eq!(judge(WorkerStatus::Alive, WINDOW, WINDOW, WINDOW), WorkerStatus::Lost);
        assert_eq!(judge(WorkerStatus::Alive, WINDOW / 2, WINDOW, WINDOW), WorkerStatus::Alive);
    }

    #[test]
    fn a_coordinator_that_has_just_started_judges_nobody() {
        assert_eq!(judge(WorkerStatus::Alive, WINDOW * 9, WINDOW / 2, WINDOW), WorkerStatus::Alive);
    }

    #[test]
    fn an_answer_is_as_good_as_a_heartbeat_and_clocks_may_go_back() {
        assert_eq!(silence(90_000, 10_000, Some(Duration::from_secs(1))), Duration::from_secs(1));
        assert_eq!(silence(90_000, 89_000, None), Duration::from_secs(1));
        assert_eq!(silence(10_000, 90_000, None), Duration::ZERO);
    }
}
