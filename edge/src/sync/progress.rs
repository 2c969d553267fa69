//! How far the edge is in following the registry, for whoever asks and waits.
//!
//! Invariant: a position is published only after the table and the sockets are as it says.

use std::sync::Arc;

use entities::ids::{Epoch, Revision};
use entities::worker::Refusal;
use tokio::sync::watch;

/// How far the edge is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Position {
    /// The registry's life that `applied` counts in; `None` before the first complete list.
    pub(crate) epoch: Option<Epoch>,
    /// Everything up to this revision is in the table and its sockets listen.
    pub(crate) applied: Revision,
    /// Circuits that cannot be served here.
    pub(crate) refused: Arc<[Refusal]>,
    /// Whether a complete list has ever been applied.
    pub(crate) is_ready: bool,
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Progress(watch::Sender<Position>);

// === impl Position ===

impl Position {
    /// Whether everything up to `revision` of `epoch` is applied.
    pub(crate) fn has_applied(&self, epoch: Epoch, revision: Revision) -> bool {
        self.epoch == Some(epoch) && self.applied >= revision
    }
}

// === impl Progress ===

impl Progress {
    /// Nothing applied yet, and a reader of what will be.
    pub(crate) fn new() -> (Self, watch::Receiver<Position>) {
        let (sender, receiver) = watch::channel(Position::default());
        (Self(sender), receiver)
    }

    /// Everything up to `revision` of `epoch` is applied.
    pub(crate) fn advance(&self, epoch: Epoch, revision: Revision, refused: Vec<Refusal>) {
        let refused = refused.into();
        self.0.send_replace(Position { epoch: Some(epoch), applied: revision, refused, is_ready: true });
    }

    /// The registry is not the one any more that `applied` counts in. What is served stays.
    pub(crate) fn forget_unless(&self, epoch: Option<Epoch>) {
        self.0.send_if_modified(|position| {
            let is_other = position.epoch.is_some() && position.epoch != epoch;
            if is_other {
                position.epoch = None;
                position.applied = Revision::default();
            }
            is_other
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_epoch_voids_what_is_applied_but_not_readiness() {
        let (progress, reader) = Progress::new();
        let epoch = Epoch::random();
        progress.advance(epoch, Revision(7), Vec::new());
        progress.forget_unless(Some(epoch));
        assert!(reader.borrow().has_applied(epoch, Revision(7)));
        assert!(!reader.borrow().has_applied(epoch, Revision(8)));
        progress.forget_unless(Some(Epoch::random()));
        let position = reader.borrow().clone();
        assert!(!position.has_applied(epoch, Revision(0)));
        assert!(position.is_ready);
    }
}
