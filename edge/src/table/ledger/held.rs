//! Circuits that the registry has stopped naming, too many at once to be believed: a pure core.
//!
//! Invariant: a circuit is held back no longer than circuits of its kind may go unconfirmed.

use std::collections::HashMap;

use entities::ids::CircuitKey;
use tokio::time::Instant;

use crate::freshness::MaxStaleness;

/// Removals up to this number are believed however few circuits there are.
const ALWAYS_BELIEVED: usize = 100;

/// How many of `known` circuits may be missing at once: a tenth, and [`ALWAYS_BELIEVED`] in any case.
pub(crate) fn removal_limit(known: usize) -> usize {
    (known / 10).max(ALWAYS_BELIEVED)
}

/// A circuit that the registry does not name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Absent {
    pub(super) key: CircuitKey,
    pub(super) is_public: bool,
}

/// What is held back, each since when.
#[derive(Debug, Default)]
pub(super) struct Held {
    since: HashMap<CircuitKey, Instant>,
    /// Gone since removals began to be held back, because their time was over. They count as missing still: the others
    /// are not believed to be gone because of it.
    aged_out: usize,
}

// === impl Held ===

impl Held {
    pub(super) fn len(&self) -> usize {
        self.since.len()
    }

    pub(super) fn contains(&self, key: &CircuitKey) -> bool {
        self.since.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &CircuitKey> {
        self.since.keys()
    }

    /// The registry names the circuit, or it is gone for another reason.
    pub(super) fn release(&mut self, key: &CircuitKey) {
        self.since.remove(key);
    }

    /// Which of `absent`, all that is missing of `known` circuits, are to go now; the others are held back.
    pub(super) fn judge(
        &mut self,
        known: usize,
        absent: Vec<Absent>,
        limits: MaxStaleness,
        now: Instant,
    ) -> Vec<CircuitKey> {
        let is_believed = absent.len() + self.aged_out <= removal_limit(known + self.aged_out);
        let before = std::mem::take(&mut self.since);
        let mut going = Vec::new();
        for Absent { key, is_public } in absent {
            let since = before.get(&key).copied().unwrap_or(now);
            if is_believed {
                going.push(key);
            } else if now.saturating_duration_since(since) >= limits.of(is_public) {
                self.aged_out += 1;
                going.push(key);
            } else {
                self.since.insert(key, since);
            }
        }
        if self.since.is_empty() {
            self.aged_out = 0;
        }
        going
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: MaxStaleness = MaxStaleness { public: Duration::from_secs(24), private: Duration::from_secs(1) };

    fn absent(count: usize, is_public: bool) -> Vec<Absent> {
        let key = |number| format!("c{number}-{is_public}:web").parse().expect("valid");
        (0..count).map(|number| Absent { key: key(number), is_public }).collect()
    }

    #[test]
    fn a_tenth_may_be_missing_and_a_hundred_in_any_case() {
        for (known, limit) in [(0, 100), (999, 100), (1_000, 100), (1_010, 101), (50_000, 5_000)] {
            assert_eq!(removal_limit(known), limit, "{known}");
        }
    }

    #[test]
    fn removals_up_to_the_limit_are_believed_and_one_more_is_held_back() {
        let now = Instant::now();
        for known in [101, 1_000, 50_000] {
            let limit = removal_limit(known);
            let mut held = Held::default();
            assert_eq!(held.judge(known, absent(limit, true), LIMITS, now).len(), limit);
            assert_eq!(held.judge(known, absent(limit + 1, true), LIMITS, now).len(), 0);
            assert_eq!(held.len(), limit + 1);
            assert_eq!(held.judge(known, absent(limit, true), LIMITS, now).len(), limit);
            assert_eq!(held.len(), 0);
        }
    }

    #[test]
    fn each_kind_goes_when_its_time_is_over_and_takes_no_other_with_it() {
        let (mut held, start) = (Held::default(), Instant::now());
        let both = [absent(60, true), absent(60, false)].concat();
        assert!(held.judge(200, both.clone(), LIMITS, start).is_empty());
        let private_over = start + LIMITS.private;
        assert_eq!(held.judge(200, both, LIMITS, private_over).len(), 60);
        assert_eq!(held.judge(140, absent(60, true), LIMITS, private_over).len(), 0);
        assert_eq!(held.judge(140, absent(60, true), LIMITS, start + LIMITS.public).len(), 60);
        assert_eq!((held.len(), held.aged_out), (0, 0));
    }

    #[test]
    fn what_joins_later_has_its_own_time() {
        let (mut held, start) = (Held::default(), Instant::now());
        let late = start + LIMITS.public - Duration::from_secs(1);
        held.judge(400, absent(150, true), LIMITS, start);
        held.judge(400, absent(200, true), LIMITS, late);
        assert_eq!(held.judge(400, absent(200, true), LIMITS, start + LIMITS.public).len(), 150);
        assert_eq!(held.len(), 50);
    }
}
