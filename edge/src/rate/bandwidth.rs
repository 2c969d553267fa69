//! How many bytes a circuit carries, each direction by itself, over all of its connections.
//!
//! Whoever has bytes books their time on the line, in the order of booking, and lets them pass when that time has come: one
//! timer for each piece, and none while there is time enough.
//!
//! Invariant: in any span of time at most [`AHEAD`] and one piece more pass than the rule allows; a piece that is given up
//! before its time leaves the line to the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use entities::rate::Bandwidth as Rule;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::words::words;

/// How much earlier than its time a piece may pass: the burst after a pause, and what makes up for timers that are late.
const AHEAD: Duration = Duration::from_millis(100);

words! {
    /// Where bytes go.
    pub(crate) enum Way in "direction" {
        /// From the client to the target.
        ToTarget = "to_target",
        /// From the target to the client.
        ToClient = "to_client",
    }
}

/// The lines of one circuit, across its generations.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    /// It may change while connections are open.
    bytes_per_s: AtomicU64,
    to_target: Line,
    to_client: Line,
}

/// Until when one direction is booked.
#[derive(Debug)]
struct Line(Mutex<Option<Instant>>);

/// A piece of bytes that has its time on the line.
#[derive(Debug)]
pub(crate) struct Booking {
    bandwidth: Arc<Bandwidth>,
    way: Way,
    /// When it may pass.
    at: Instant,
    /// How long it takes.
    takes: Duration,
}

// === impl Bandwidth ===

impl Bandwidth {
    /// Carries out `rule`. What is open of the generation before keeps to the new rule as well.
    pub(crate) fn of(rule: Option<Rule>, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let bytes_per_s = rule.map_or(u64::MAX, |rule| rule.bytes_per_s);
        if let Some(before) = before {
            before.bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
        }
        rule?;
        let new = || {
            let [to_target, to_client] = [(), ()].map(|()| Line(Mutex::new(None)));
            Arc::new(Self { bytes_per_s: AtomicU64::new(bytes_per_s), to_target, to_client })
        };
        Some(before.map_or_else(new, Arc::clone))
    }

    /// Books the time of so many bytes; nothing if they may pass at once.
    pub(crate) fn book(self: &Arc<Self>, way: Way, bytes: usize) -> Option<Booking> {
        let now = Instant::now();
        let bytes_per_s = self.bytes_per_s.load(Ordering::Relaxed).max(1);
        let takes_ns = (bytes as u128).saturating_mul(1_000_000_000) / u128::from(bytes_per_s);
        let takes = Duration::from_nanos(u64::try_from(takes_ns).unwrap_or(u64::MAX / 4));
        let begins = self.line(way).take(now, takes);
        let at = begins.checked_sub(AHEAD).unwrap_or(begins);
        (at > now).then(|| Booking { bandwidth: Arc::clone(self), way, at, takes })
    }

    fn line(&self, way: Way) -> &Line {
        match way {
            Way::ToTarget => &self.to_target,
            Way::ToClient => &self.to_client,
        }
    }
}

// === impl Line ===

impl Line {
    /// Books the next so long; the answer is when that begins.
    fn take(&self, now: Instant, takes: Duration) -> Instant {
        let mut booked = self.0.lock();
        let begins = booked.map_or(now, |booked| booked.max(now));
        *booked = begins.checked_add(takes).or(Some(begins));
        begins
    }

    /// So much is not needed.
    fn give_back(&self, takes: Duration) {
        let mut booked = self.0.lock();
        *booked = booked.and_then(|booked| booked.checked_sub(takes));
    }
}

// === impl Booking ===

impl Booking {
    /// When the piece may pass.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Waits for that.
    pub(crate) async fn pass(self) {
        sleep_until(self.at).await;
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if Instant::now() < self.at {
            self.bandwidth.line(self.way).give_back(self.takes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { bytes_per_s: 100_000 };

    async fn carry(bandwidth: Arc<Bandwidth>, way: Way, pieces: usize) {
        for _ in 0..pieces {
            if let Some(booking) = bandwidth.book(way, 10_000) {
                booking.pass().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_connections_share_a_direction_and_the_other_one_is_free() {
        let bandwidth = Bandwidth::of(Some(RULE), None).expect("a rule");
        let began = Instant::now();
        let one = tokio::spawn(carry(Arc::clone(&bandwidth), Way::ToClient, 50));
        let two = tokio::spawn(carry(Arc::clone(&bandwidth), Way::ToClient, 50));
        let other = tokio::spawn(carry(Arc::clone(&bandwidth), Way::ToTarget, 20));
        other.await.expect("no panic");
        // 20 pieces take 2 s, of which 0.1 s and the last piece are ahead.
        assert!((1_790..=1_900).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        one.await.expect("no panic");
        let first = began.elapsed();
        two.await.expect("no panic");
        assert!((9_790..=9_900).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        assert!(began.elapsed() - first <= Duration::from_millis(500), "they take turns: {first:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_saved_up() {
        let bandwidth = Bandwidth::of(Some(RULE), None).expect("a rule");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        carry(bandwidth, Way::ToClient, 100).await;
        assert!(began.elapsed() >= Duration::from_millis(9_790), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_leaves_the_line_to_the_others() {
        let bandwidth = Bandwidth::of(Some(RULE), None).expect("a rule");
        let given_up: Vec<Booking> = (0..1_000).filter_map(|_| bandwidth.book(Way::ToClient, 10_000)).collect();
        assert!(given_up.len() > 900);
        drop(given_up);
        let began = Instant::now();
        carry(bandwidth, Way::ToClient, 5).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_open_keeps_to_a_new_rule() {
        let before = Bandwidth::of(Some(RULE), None).expect("a rule");
        let after = Bandwidth::of(Some(Rule { bytes_per_s: 1_000_000 }), Some(&before)).expect("a rule");
        assert!(Arc::ptr_eq(&before, &after));
        let began = Instant::now();
        carry(Arc::clone(&before), Way::ToClient, 100).await;
        assert!((800..=1_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        assert!(Bandwidth::of(None, Some(&before)).is_none());
        let began = Instant::now();
        carry(before, Way::ToTarget, 10_000).await;
        assert!(began.elapsed() < Duration::from_millis(10), "no rule any more");
    }
}
