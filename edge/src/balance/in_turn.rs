//! Each target in turn, as a selection of pingora-load-balancing.
//!
//! The round robin that pingora brings starts at the first target whenever the targets change, and takes the next
//! turn away from others while it looks for a second choice.
//!
//! Invariant: a choice takes one turn, whatever is skipped, and the turn lives outside so that it survives a rebuild.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};

/// The backends, and whose turn it is.
pub(super) struct InTurn {
    backends: Box<[Backend]>,
    turn: Arc<AtomicUsize>,
}

/// Goes once round, beginning with the backend whose turn it is.
pub(super) struct Round {
    selection: Arc<InTurn>,
    next: usize,
}

// === impl InTurn ===

impl BackendSelection for InTurn {
    type Iter = Round;
    type Config = Arc<AtomicUsize>;

    fn build_with_config(backends: &BTreeSet<Backend>, turn: &Self::Config) -> Self {
        Self { backends: backends.iter().cloned().collect(), turn: Arc::clone(turn) }
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &Arc::default())
    }

    fn iter(self: &Arc<Self>, _key: &[u8]) -> Round {
        Round { next: self.turn.fetch_add(1, Ordering::Relaxed), selection: Arc::clone(self) }
    }
}

// === impl Round ===

impl BackendIter for Round {
    fn next(&mut self) -> Option<&Backend> {
        let at = self.next.checked_rem(self.selection.backends.len())?;
        self.next = self.next.wrapping_add(1);
        self.selection.backends.get(at)
    }
}
