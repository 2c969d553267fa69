//! How far an edge is in following the registry, as those see it who ask and those who write it down.
//!
//! Invariant: nothing here changes a position; only `sync` does.

use std::sync::Arc;

use entities::ids::{Epoch, InstallationId, Revision};
use entities::worker::Refusal;
use tokio::time::Instant;

use crate::words::words;

/// How far the edge is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Position {
    /// The registry's life that `applied` counts in; `None` before the first complete list.
    pub(crate) epoch: Option<Epoch>,
    /// Everything up to this revision is in the table and its sockets listen.
    pub(crate) applied: Revision,
    /// Circuits that cannot be served here.
    pub(crate) refused: Arc<[Refusal]>,
    /// Whether there is something to serve from: a complete list or a snapshot.
    pub(crate) is_ready: bool,
    /// Why what is served may not be what should be.
    pub(crate) stale: Option<Stale>,
    /// Circuits that are served although the registry does not name them.
    pub(crate) held_back: usize,
}

/// What is served is not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale {
    /// The latest reason.
    pub(crate) reason: StaleReason,
    /// Since when, whatever the reasons were.
    pub(crate) since: Instant,
}

words! {
    /// Why what is served is not confirmed.
    pub(crate) enum StaleReason in "reason" {
        /// The registry does not answer.
        Unreachable = "unreachable",
        /// The registry is empty or being filled.
        Incomplete = "incomplete",
        /// The registry belongs to another installation.
        OtherInstallation = "other_installation",
        /// The registry went back.
        Restored = "restored",
        /// The registry stopped naming too many circuits at once.
        MassRemoval = "mass_removal",
    }
}

/// What the edge follows: from this run, else from its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Followed {
    /// Whose registry it is.
    pub(crate) installation_id: InstallationId,
    /// Which life of the registry.
    pub(crate) epoch: Epoch,
    /// The highest revision that was applied.
    pub(crate) revision: Revision,
}

// === impl Position ===

impl Position {
    /// Whether everything up to `revision` of `epoch` is applied.
    pub(crate) fn has_applied(&self, epoch: Epoch, revision: Revision) -> bool {
        self.epoch == Some(epoch) && self.applied >= revision
    }
}
