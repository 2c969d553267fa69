//! One target as a choice sees it.
//!
//! Invariant: what is open at a target is counted until its [`Hold`] is dropped, across all generations of the circuit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::mask::Mask;
use super::smooth::Credits;
use crate::health::Watch;

/// What outlives a generation of a target that stays.
#[derive(Debug, Default)]
pub(super) struct TargetStats {
    /// Requests, streams and tunnels that are open there.
    open: AtomicU32,
    /// Whether it has ever answered.
    has_answered: AtomicBool,
}

/// Something that is open at a target.
#[derive(Debug)]
pub(crate) struct Hold(Arc<TargetStats>);

/// One target of several.
pub(super) struct Member {
    /// Its share; with 0 it gets nothing new.
    pub(super) weight: u16,
    pub(super) stats: Arc<TargetStats>,
    /// Without one it always works.
    pub(super) watch: Option<Arc<Watch>>,
}

/// All targets of one generation of a circuit, and what a choice among them depends on.
pub(super) struct Members {
    pub(super) list: Box<[Member]>,
    /// Counts choices; it goes on when the targets change.
    pub(super) turn: Arc<AtomicUsize>,
    /// Whether targets that look down are tried when all do.
    pub(super) fails_open: bool,
    /// Where smooth weights are, for those that stay.
    pub(super) credits: Credits,
}

// === impl TargetStats ===

impl TargetStats {
    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn note_answer(&self) {
        // A flag that is read is shared by all processors, one that is written is not.
        if !self.has_answered() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }
}

// === impl Hold ===

impl Hold {
    pub(super) fn take(stats: &Arc<TargetStats>) -> Self {
        stats.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(stats))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Members ===

impl Members {
    /// Those that may be chosen: they have a weight, are not excluded, and work, as far as is known; if none does, all of
    /// them may be wrong about that.
    pub(super) fn eligible(&self, excluded: Mask) -> Mask {
        let (mut working, mut others) = (Mask::default(), Mask::default());
        for (index, member) in self.list.iter().enumerate() {
            if member.weight == 0 || excluded.has(index) {
                continue;
            }
            if member.watch.as_ref().is_none_or(|watch| watch.is_usable()) {
                working.add(index);
            } else {
                others.add(index);
            }
        }
        if working.is_empty() && self.fails_open { others } else { working }
    }

    /// The next number.
    pub(super) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}
