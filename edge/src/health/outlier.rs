//! What requests and connections say about an address: several failures in a row take it out for a while.
//!
//! The time out grows with every time that it had to be taken out again, as in Envoy's outlier detection.
//!
//! Invariant: an address that is out comes back by a success only, of a probe or of a request, and by a probe's not before
//! its time is over.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that take an address out: one may be a restart, two a coincidence.
const FAILURES: u32 = 3;

/// How long it is out the first time, and at most.
const TIME_OUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long it must have worked for its earlier times out not to count any more.
const FORGIVEN_AFTER: Duration = Duration::from_secs(120);

/// How long to wait between probes of an address that is out, at first and at most.
const PROBE_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is known about one address.
#[derive(Debug, Default)]
pub(super) struct Outlier {
    /// Failures since the last success.
    failures: u32,
    /// How often it was taken out.
    times_out: u32,
    /// While it is out: when a probe may bring it back.
    out_until: Option<Instant>,
    /// Probes that failed since it was taken out.
    failed_probes: u32,
    /// When it came back last.
    back_at: Option<Instant>,
}

// === impl Outlier ===

impl Outlier {
    /// A request or a connection has failed. If that takes the address out, the answer says when to probe it first;
    /// `jitter`, about 1, keeps edges from doing so all at once.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) -> Option<Instant> {
        self.failures = self.failures.saturating_add(1);
        if self.is_out() || self.failures < FAILURES {
            return None;
        }
        if self.back_at.is_none_or(|at| now.saturating_duration_since(at) >= FORGIVEN_AFTER) {
            self.times_out = 0;
        }
        let until = now + growing(TIME_OUT, self.times_out, jitter);
        self.times_out = self.times_out.saturating_add(1);
        self.failed_probes = 0;
        self.out_until = Some(until);
        Some(until)
    }

    /// A request or a connection has succeeded; `true` if the address was out.
    pub(super) fn succeeded(&mut self, now: Instant) -> bool {
        self.failures = 0;
        let was_out = self.out_until.take().is_some();
        if was_out {
            self.back_at = Some(now);
        }
        was_out
    }

    /// A probe has succeeded; `true` if that brings the address back.
    pub(super) fn probe_succeeded(&mut self, now: Instant) -> bool {
        self.out_until.is_some_and(|until| until <= now) && self.succeeded(now)
    }

    /// A probe has failed; the answer says when to probe again.
    pub(super) fn probe_failed(&mut self, now: Instant, jitter: f64) -> Instant {
        let wait = growing(PROBE_WAIT, self.failed_probes, jitter);
        self.failed_probes = self.failed_probes.saturating_add(1);
        now + wait
    }

    /// Whether it is out.
    pub(super) fn is_out(&self) -> bool {
        self.out_until.is_some()
    }

    /// Whether nothing has failed since the last success.
    pub(super) fn is_clean(&self) -> bool {
        self.failures == 0 && !self.is_out()
    }

    /// Whether it has been out and is back.
    pub(super) fn has_recovered(&self) -> bool {
        self.back_at.is_some() && !self.is_out()
    }
}

/// Twice as long each time, up to a limit.
fn growing((first, most): (Duration, Duration), times: u32, jitter: f64) -> Duration {
    let grown = first.saturating_mul(2_u32.saturating_pow(times.min(16)));
    grown.min(most).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_out(outlier: &mut Outlier, now: Instant) -> Duration {
        for _ in 1..FAILURES {
            assert_eq!(outlier.failed(now, 1.0), None);
        }
        outlier.failed(now, 1.0).expect("it is out now") - now
    }

    #[test]
    fn only_failures_in_a_row_take_an_address_out() {
        let (mut outlier, now) = (Outlier::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(outlier.failed(now, 1.0), None);
            assert_eq!(outlier.failed(now, 1.0), None);
            assert!(!outlier.succeeded(now));
        }
        assert!(!outlier.is_out());
        take_out(&mut outlier, now);
        assert!(outlier.is_out());
        assert_eq!(outlier.failed(now, 1.0), None, "what is out is not taken out again");
    }

    #[test]
    fn a_probe_brings_it_back_when_its_time_is_over_and_a_request_at_once() {
        let (mut outlier, now) = (Outlier::default(), Instant::now());
        let time = take_out(&mut outlier, now);
        assert!(!outlier.probe_succeeded(now));
        assert!(outlier.probe_succeeded(now + time));
        assert!(outlier.has_recovered());
        take_out(&mut outlier, now + time);
        assert!(outlier.succeeded(now + time));
        assert!(outlier.is_clean());
    }

    #[test]
    fn who_flaps_is_out_longer_each_time_until_it_has_worked_for_long() {
        let (mut outlier, mut now) = (Outlier::default(), Instant::now());
        let mut times = Vec::new();
        for _ in 0..9 {
            let time = take_out(&mut outlier, now);
            now += time;
            assert!(outlier.probe_succeeded(now));
            times.push(time.as_secs());
        }
        assert_eq!(times, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += FORGIVEN_AFTER;
        assert_eq!(take_out(&mut outlier, now), TIME_OUT.0);
    }

    #[test]
    fn probes_of_what_stays_away_become_rare() {
        let (mut outlier, now) = (Outlier::default(), Instant::now());
        take_out(&mut outlier, now);
        let waits: Vec<u64> = (0..7).map(|_| (outlier.probe_failed(now, 1.0) - now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!((outlier.probe_failed(now, 0.5) - now).as_secs(), 15, "and are not all at once");
    }
}
