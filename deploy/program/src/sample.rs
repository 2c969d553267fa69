//! Lines of the log that strangers can provoke: a few of each kind, and how many were left out.
//!
//! Invariant: at most [`LINES_PER_SECOND`] lines a second for each kind, so that nobody can fill a disk; the next line
//! has the number of those left out.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lines of the log for each kind and second.
pub const LINES_PER_SECOND: u64 = 5;

/// How many lines each of `KINDS` kinds may still have.
#[derive(Debug)]
pub struct Samples<const KINDS: usize> {
    began: Instant,
    kinds: [Sample; KINDS],
}

#[derive(Debug, Default)]
struct Sample {
    second: AtomicU64,
    lines: AtomicU64,
    left_out: AtomicU64,
}

// === impl Samples ===

impl<const KINDS: usize> Samples<KINDS> {
    /// Whether the kind with this number may have a line now, and how many of its lines were left out since the last
    /// one. A kind that there is not has none.
    pub fn take_line(&self, kind: usize) -> Option<u64> {
        self.kinds.get(kind)?.take_line(self.began.elapsed().as_secs())
    }
}

impl<const KINDS: usize> Default for Samples<KINDS> {
    fn default() -> Self {
        Self { began: Instant::now(), kinds: array::from_fn(|_| Sample::default()) }
    }
}

// === impl Sample ===

impl Sample {
    /// Whether there may be another line in `second`, and how many were left out since the last one.
    fn take_line(&self, second: u64) -> Option<u64> {
        // Threads that meet at the turn of a second may grant each other a few lines more.
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines.store(0, Ordering::Relaxed);
        }
        if self.lines.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_a_few_lines_a_second_and_none_is_forgotten() {
        let sample = Sample::default();
        let lines: Vec<Option<u64>> = (0..LINES_PER_SECOND + 7).map(|_| sample.take_line(3)).collect();
        assert_eq!(lines.iter().flatten().count() as u64, LINES_PER_SECOND);
        assert_eq!(sample.take_line(4), Some(7));
        assert_eq!(sample.take_line(4), Some(0));
    }

    #[test]
    fn kinds_do_not_take_each_others_lines() {
        let samples = Samples::<2>::default();
        while samples.take_line(0).is_some() {}
        assert_eq!(samples.take_line(1), Some(0));
        assert_eq!(samples.take_line(2), None, "there is no such kind");
    }
}
