//! Tells the rest of the edge how it stands with the registry: how far, since when confirmed, and whether stale.
//!
//! Invariant: the edge is not stale exactly while it follows a trusted registry and serves nothing beside what that
//! names.

use std::sync::Arc;
use std::time::Duration;

use entities::ids::Epoch;
use entities::worker::Refusal;
use tokio::time::Instant;

use super::SyncMetrics;
use super::progress::Progress;
use super::trust::Distrust;
use crate::freshness::{Confirmed, Freshness};
use crate::metrics::as_gauge;
use crate::position::{Followed, StaleReason};
use crate::snapshot::Journal;
use crate::words::Words as _;

/// How the edge stands with the registry.
pub(crate) struct Standing {
    progress: Progress,
    freshness: Arc<Freshness>,
    journal: Option<Arc<Journal>>,
    metrics: Arc<SyncMetrics>,
    followed: Option<Followed>,
    is_following: bool,
}

// === impl Standing ===

impl Standing {
    /// An edge that follows nothing yet.
    pub(crate) fn new(
        progress: Progress,
        freshness: Arc<Freshness>,
        journal: Option<Arc<Journal>>,
        metrics: Arc<SyncMetrics>,
    ) -> Self {
        Self { progress, freshness, journal, metrics, followed: None, is_following: false }
    }

    /// What the edge follows, or followed before it was started again.
    pub(super) fn followed(&self) -> Option<Followed> {
        self.followed
    }

    /// The snapshot knows a position of the run before, confirmed `age` ago.
    pub(super) fn remember(&mut self, followed: Followed, age: Duration) {
        self.followed = Some(followed);
        self.freshness.set(Confirmed::Before { at: Instant::now(), age_then: age });
    }

    /// What the snapshot says is in the table.
    pub(super) fn serve_from_snapshot(&self) {
        self.progress.serve_from_snapshot();
    }

    /// Everything up to a revision is applied.
    pub(super) fn advance(&mut self, followed: Followed, refused: Vec<Refusal>) {
        self.followed = Some(followed);
        self.metrics.applied_revision.set(as_gauge(followed.revision.0));
        if let Some(journal) = &self.journal {
            journal.advance(followed);
        }
        self.progress.advance(followed.epoch, followed.revision, refused);
    }

    /// A trusted registry is followed; `held_back` circuits are served that it does not name.
    pub(super) fn follow(&mut self, held_back: usize) {
        if !self.is_following {
            self.set_following(true);
            self.freshness.set(Confirmed::Now);
        }
        self.say((held_back > 0).then_some(StaleReason::MassRemoval), held_back);
    }

    /// The registry is not followed any more; that alone is no reason to worry, as it is listed again at once.
    pub(super) fn lose(&mut self) {
        if self.is_following {
            self.set_following(false);
            self.freshness.set(Confirmed::Before { at: Instant::now(), age_then: Duration::ZERO });
        }
    }

    /// The registry does not answer.
    pub(super) fn unreachable(&self, held_back: usize) {
        self.say(Some(StaleReason::Unreachable), held_back);
    }

    /// A list came that is not trusted; `epoch` is what it says.
    pub(super) fn distrust(&self, distrust: Distrust, epoch: Option<Epoch>, held_back: usize) {
        let reason = match distrust {
            Distrust::Incomplete => StaleReason::Incomplete,
            Distrust::OtherInstallation { .. } => StaleReason::OtherInstallation,
            Distrust::Restored { .. } => StaleReason::Restored,
        };
        // A revision that went back voids what was applied, though the epoch is the same.
        self.progress.forget_unless(epoch.filter(|_| reason != StaleReason::Restored));
        if !self.say(Some(reason), held_back) {
            return;
        }
        if reason == StaleReason::Incomplete {
            tracing::info!("{distrust}, what is served stays");
        } else {
            tracing::error!("{distrust}, what is served stays");
        }
    }

    fn set_following(&mut self, is_following: bool) {
        self.is_following = is_following;
        if let Some(journal) = &self.journal {
            journal.set_following(is_following);
        }
    }

    fn say(&self, reason: Option<StaleReason>, held_back: usize) -> bool {
        let is_news = self.progress.set_stale(reason, held_back);
        if is_news {
            self.metrics.stale.set_only(reason);
            match reason {
                Some(StaleReason::MassRemoval) => tracing::error!(
                    held_back,
                    "the registry stopped naming too many circuits at once, they are served until that is sure"
                ),
                Some(reason) => tracing::warn!(reason = reason.as_str(), "what is served is not confirmed"),
                None => tracing::info!("what is served is confirmed"),
            }
        }
        self.metrics.circuits_held_back.set(as_gauge(held_back));
        is_news
    }
}
