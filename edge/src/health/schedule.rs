//! Which probe is due when.
//!
//! Invariant: at most [`MAX_PROBES`] probes at a time, one of each check; a check keeps its place in time, so that checks
//! which are spread stay spread, and one that nobody watches any more is never probed again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Weak;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::probe::{probe_check, probe_connection};
use super::watch::{AddressHealth, Checked};
use super::{HealthMetrics, ProbeOutcome};
use crate::egress::Egress;

/// Probes under way: 100 a second of which every one takes its whole two seconds, and some more.
const MAX_PROBES: usize = 256;

/// What is to be done.
pub(super) enum Job {
    /// A probe of a check.
    Check(Weak<Checked>),
    /// Whether an address that was taken out takes connections again.
    Recover(Weak<AddressHealth>),
}

/// What is due when.
#[derive(Default)]
pub(super) struct Schedule {
    due: Mutex<Due>,
    changed: Notify,
}

#[derive(Default)]
struct Due {
    heap: BinaryHeap<Reverse<Entry>>,
    count: u64,
}

struct Entry {
    at: Instant,
    /// Tells entries apart that are due at the same time.
    number: u64,
    job: Job,
}

// === impl Schedule ===

impl Schedule {
    /// `job` is due at `at`.
    pub(super) fn add(&self, at: Instant, job: Job) {
        let mut due = self.due.lock();
        due.count = due.count.wrapping_add(1);
        let number = due.count;
        due.heap.push(Reverse(Entry { at, number, job }));
        drop(due);
        self.changed.notify_one();
    }

    /// Does what is due, for ever.
    pub(super) async fn run(&self, egress: &Egress, metrics: &HealthMetrics) {
        // All in one task: a hundred small answers a second are not worth waking other threads for.
        let mut probes = FuturesUnordered::new();
        loop {
            let (due, next) = if probes.len() < MAX_PROBES { self.next(Instant::now()) } else { (None, None) };
            if let Some((at, job)) = due {
                probes.push(carry_out(at, job, egress, metrics));
                continue;
            }
            tokio::select! {
                Some(done) = probes.next() => {
                    if let Some((at, job)) = done {
                        self.add(at, job);
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// The job that is due, or when the next one will be.
    fn next(&self, now: Instant) -> (Option<(Instant, Job)>, Option<Instant>) {
        let mut due = self.due.lock();
        match due.heap.peek() {
            Some(Reverse(entry)) if entry.at <= now => {
                let entry = due.heap.pop().map(|Reverse(entry)| (entry.at, entry.job));
                (entry, None)
            }
            Some(Reverse(entry)) => (None, Some(entry.at)),
            None => (None, None),
        }
    }
}

/// Does a job; says when it is to be done again.
async fn carry_out(at: Instant, job: Job, egress: &Egress, metrics: &HealthMetrics) -> Option<(Instant, Job)> {
    match job {
        Job::Check(watched) => {
            let checked = watched.upgrade()?;
            let outcome = probe_check(&checked, egress).await;
            metrics.probes.inc(if outcome.is_ok() { ProbeOutcome::Ok } else { ProbeOutcome::Failed });
            if let Err(error) = &outcome {
                tracing::debug!(target = %checked.address.address, %error, "a probe failed");
            }
            checked.record(outcome.is_ok());
            Some((following(at, checked.interval(), Instant::now()), Job::Check(watched)))
        }
        Job::Recover(watched) => {
            let address = watched.upgrade()?;
            if !address.is_out() {
                return None;
            }
            let outcome = probe_connection(&address, egress).await;
            metrics.probes.inc(if outcome.is_ok() { ProbeOutcome::Ok } else { ProbeOutcome::Failed });
            if outcome.is_ok() {
                address.probe_succeeded();
            }
            let again = address.is_out().then(|| address.probe_failed());
            again.map(|at| (at, Job::Recover(watched)))
        }
    }
}

/// The next time that a check is due which was due at `at`: what was missed is not made up for.
fn following(at: Instant, interval: std::time::Duration, now: Instant) -> Instant {
    let next = at + interval;
    if next > now { next } else { now + interval }
}

// === impl Entry ===

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
