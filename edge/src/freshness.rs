//! How long ago the edge last knew that what it serves is right, and whether that is too long ago.
//!
//! Invariant: a request asks one flag and no clock. A kind of circuits takes new requests exactly while its last
//! confirmation is younger than its limit; nothing that is open is cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How old a confirmation may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxStaleness {
    /// For public circuits.
    pub(crate) public: Duration,
    /// For private circuits.
    pub(crate) private: Duration,
}

/// The moment of the last confirmation, and what follows from it.
#[derive(Debug)]
pub(crate) struct Freshness {
    limits: MaxStaleness,
    has_public_lapsed: AtomicBool,
    has_private_lapsed: AtomicBool,
    confirmed: watch::Sender<Confirmed>,
}

/// When a trusted registry was last followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// It is being followed.
    Now,
    /// At `at` it was `age_then` ago. In two parts, because there is no `Instant` before the machine started.
    Before {
        /// A moment of this run.
        at: Instant,
        /// How old the confirmation was at that moment.
        age_then: Duration,
    },
}

// === impl MaxStaleness ===

impl MaxStaleness {
    /// The limit of this kind of circuits.
    pub(crate) fn of(self, is_public: bool) -> Duration {
        if is_public { self.public } else { self.private }
    }
}

// === impl Confirmed ===

impl Confirmed {
    /// How long ago that was.
    pub(crate) fn age(self, now: Instant) -> Duration {
        match self {
            Self::Now => Duration::ZERO,
            Self::Before { at, age_then } => now.saturating_duration_since(at).saturating_add(age_then),
        }
    }

    /// How long it takes until that is `limit` ago; `None` if that does not come or has come.
    fn time_left(self, limit: Duration, now: Instant) -> Option<Duration> {
        match self {
            Self::Now => None,
            Self::Before { .. } => limit.checked_sub(self.age(now)).filter(|left| !left.is_zero()),
        }
    }
}

// === impl Freshness ===

impl Freshness {
    /// An edge that starts; what it may come to know has to be confirmed within `limits`.
    pub(crate) fn new(limits: MaxStaleness) -> Self {
        let confirmed = Confirmed::Before { at: Instant::now(), age_then: Duration::ZERO };
        Self {
            limits,
            has_public_lapsed: AtomicBool::new(false),
            has_private_lapsed: AtomicBool::new(false),
            confirmed: watch::Sender::new(confirmed),
        }
    }

    /// Whether circuits of this kind take no new requests.
    pub(crate) fn has_lapsed(&self, is_public: bool) -> bool {
        self.flag(is_public).load(Ordering::Relaxed)
    }

    /// How long ago the last confirmation was.
    pub(crate) fn age(&self) -> Duration {
        self.confirmed.borrow().age(Instant::now())
    }

    /// Notes when the last confirmation was; what follows from it holds when this returns.
    pub(crate) fn set(&self, confirmed: Confirmed) {
        self.confirmed.send_replace(confirmed);
        self.judge(confirmed, Instant::now());
    }

    /// Notes when limits are passed, for ever. To be polled by the task that calls [`Freshness::set`].
    pub(crate) async fn watch_limits(&self) {
        let mut changes = self.confirmed.subscribe();
        loop {
            let confirmed = *changes.borrow_and_update();
            let now = Instant::now();
            self.judge(confirmed, now);
            let time_left = |limit| confirmed.time_left(limit, now);
            let next = time_left(self.limits.public).into_iter().chain(time_left(self.limits.private)).min();
            let limit_passes = async {
                match next {
                    Some(next) => tokio::time::sleep(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = limit_passes => {}
                // The sender is a part of `self`, so it is there.
                _ = changes.changed() => {}
            }
        }
    }

    fn judge(&self, confirmed: Confirmed, now: Instant) {
        for is_public in [true, false] {
            let limit = self.limits.of(is_public);
            let has_lapsed = confirmed != Confirmed::Now && confirmed.age(now) >= limit;
            if self.flag(is_public).swap(has_lapsed, Ordering::Relaxed) == has_lapsed {
                continue;
            }
            if has_lapsed {
                tracing::error!(is_public, ?limit, "circuits are unconfirmed for too long, they take no new requests");
            } else {
                tracing::info!(is_public, "circuits are confirmed again, they take requests");
            }
        }
    }

    fn flag(&self, is_public: bool) -> &AtomicBool {
        if is_public { &self.has_public_lapsed } else { &self.has_private_lapsed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MaxStaleness = MaxStaleness { public: Duration::from_secs(24), private: Duration::from_secs(1) };

    fn lapsed(freshness: &Freshness) -> (bool, bool) {
        (freshness.has_lapsed(true), freshness.has_lapsed(false))
    }

    #[test]
    fn each_kind_lapses_at_its_own_limit_and_comes_back_with_a_confirmation() {
        let freshness = Freshness::new(LIMITS);
        let at = Instant::now();
        let confirmed = Confirmed::Before { at, age_then: Duration::ZERO };
        for (age_ms, expected) in
            [(0, (false, false)), (999, (false, false)), (1_000, (false, true)), (24_000, (true, true))]
        {
            freshness.judge(confirmed, at + Duration::from_millis(age_ms));
            assert_eq!(lapsed(&freshness), expected, "{age_ms} ms");
        }
        freshness.judge(Confirmed::Now, at + Duration::from_secs(100));
        assert_eq!(lapsed(&freshness), (false, false));
    }

    #[test]
    fn what_was_old_at_the_start_has_less_time_left() {
        let at = Instant::now();
        let confirmed = Confirmed::Before { at, age_then: Duration::from_secs(20) };
        let left = |passed_s| confirmed.time_left(LIMITS.public, at + Duration::from_secs(passed_s));
        assert_eq!(left(0), Some(Duration::from_secs(4)));
        assert_eq!(left(4), None);
        assert_eq!(Confirmed::Now.time_left(LIMITS.public, at), None);
        let freshness = Freshness::new(LIMITS);
        freshness.set(Confirmed::Before { at, age_then: Duration::MAX });
        assert_eq!(lapsed(&freshness), (true, true));
    }

    #[tokio::test]
    async fn a_limit_passes_without_anybody_asking() {
        let brief = Duration::from_millis(20);
        let freshness = Freshness::new(MaxStaleness { public: brief, private: brief });
        let all_lapsed = testkit::wait::wait_until("both limits", async || lapsed(&freshness) == (true, true));
        tokio::select! {
            () = freshness.watch_limits() => unreachable!("it watches for ever"),
            () = all_lapsed => {}
        }
    }
}
