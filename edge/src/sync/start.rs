//! The start: the first list, and the snapshot while there is none that can be trusted.
//!
//! Invariant: the snapshot is served only before the first trusted list, and at most once.

use std::sync::Arc;
use std::time::Duration;

use entities::registry::{Listing, RegistryError};

use super::{Follower, Ports};
use crate::snapshot::Remembered;

/// How long an edge that has a snapshot waits for its first list before it serves the snapshot.
const FIRST_LIST_WAIT: Duration = Duration::from_secs(3);

impl<P: Ports> Follower<P> {
    /// Takes note of what was followed and served before the edge was started again.
    pub(crate) fn remember(&mut self, remembered: Remembered) {
        // Without a position nobody knows whose circuits those are.
        if let Some((followed, age)) = remembered.followed {
            self.standing.remember(followed, age);
            self.applier.remember(remembered.circuits, remembered.keys);
            self.has_snapshot = true;
        }
    }

    /// Lists the registry; if that fails or takes long, the snapshot is served.
    pub(super) async fn list(&mut self) -> Result<Listing, RegistryError> {
        let (registry, root) = (Arc::clone(&self.registry), self.layout.root());
        let mut listing = registry.list(&root);
        if self.has_snapshot {
            match tokio::time::timeout(FIRST_LIST_WAIT, &mut listing).await {
                Ok(Ok(listing)) => return Ok(listing),
                Ok(Err(error)) => {
                    self.standing.unreachable(0);
                    self.serve_snapshot().await;
                    return Err(error);
                }
                Err(_) => {
                    self.standing.unreachable(0);
                    self.serve_snapshot().await;
                }
            }
        }
        listing.await
    }

    /// Serves what the snapshot says, if that has not been done and no list has come.
    pub(super) async fn serve_snapshot(&mut self) {
        if std::mem::take(&mut self.has_snapshot) {
            self.applier.apply_remembered().await;
            self.standing.serve_from_snapshot();
            tracing::warn!("serving from the snapshot");
        }
    }
}
