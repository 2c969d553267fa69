//! How far the edge is in following the registry, for whoever asks and waits.
//!
//! Invariant: a position is published only after the table and the sockets are as it says.

use entities::ids::{Epoch, Revision};
use entities::worker::Refusal;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::position::{Position, Stale, StaleReason};

/// The writing end.
#[derive(Debug)]
pub(crate) struct Progress(watch::Sender<Position>);

// === impl Progress ===

impl Progress {
    /// Nothing applied yet, and a reader of what will be.
    pub(crate) fn new() -> (Self, watch::Receiver<Position>) {
        let (sender, receiver) = watch::channel(Position::default());
        (Self(sender), receiver)
    }

    /// Everything up to `revision` of `epoch` is applied.
    pub(crate) fn advance(&self, epoch: Epoch, revision: Revision, refused: Vec<Refusal>) {
        self.0.send_modify(|position| {
            position.epoch = Some(epoch);
            position.applied = revision;
            position.refused = refused.into();
            position.is_ready = true;
        });
    }

    /// What the snapshot says is in the table; nothing of it counts as applied.
    pub(crate) fn serve_from_snapshot(&self) {
        self.0.send_modify(|position| position.is_ready = true);
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

    /// Whether, and why, what is served is not confirmed; `true` if that is news.
    pub(crate) fn set_stale(&self, reason: Option<StaleReason>, held_back: usize) -> bool {
        let mut is_news = false;
        self.0.send_if_modified(|position| {
            is_news = position.stale.map(|stale| stale.reason) != reason;
            let has_changed = is_news || position.held_back != held_back;
            let since = position.stale.map(|stale| stale.since);
            position.stale = reason.map(|reason| Stale { reason, since: since.unwrap_or_else(Instant::now) });
            position.held_back = held_back;
            has_changed
        });
        is_news
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

    #[test]
    fn a_snapshot_makes_ready_and_nothing_applied() {
        let (progress, reader) = Progress::new();
        progress.serve_from_snapshot();
        assert!(reader.borrow().is_ready);
        assert_eq!((reader.borrow().epoch, reader.borrow().applied), (None, Revision(0)));
    }

    #[test]
    fn another_reason_goes_on_from_when_the_first_began() {
        let (progress, reader) = Progress::new();
        assert!(progress.set_stale(Some(StaleReason::Unreachable), 0));
        let since = reader.borrow().stale.expect("stale").since;
        assert!(!progress.set_stale(Some(StaleReason::Unreachable), 0));
        assert!(progress.set_stale(Some(StaleReason::Incomplete), 0));
        assert_eq!(reader.borrow().stale, Some(Stale { reason: StaleReason::Incomplete, since }));
        assert!(progress.set_stale(None, 0));
        assert_eq!(reader.borrow().stale, None);
    }
}
