//! Whether the registry is still the one that this coordinator knows.
//!
//! A registry can be emptied, restored from an old copy, or be another one from one call to the next. Writes are
//! therefore fenced by its `meta` key, and every answer must come from a revision that is no older than what was seen
//! before the question was asked: etcd answers reads and writes in one order (etcd documentation, "KV API
//! guarantees").
//!
//! Invariant: nothing is written under a `meta` that was not taken for ours first, and a revision that went back is
//! noticed by the first call that sees it.

use std::sync::atomic::{AtomicU64, Ordering};

use entities::ids::{Epoch, InstallationId, Revision};
use entities::registry::layout::Meta;
use entities::registry::{Entry, Expected, Fence, Swap};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::{PublishError, Publisher};

/// What is known about the registry.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Held for reading while something is written, and for writing while `meta` is.
    held: RwLock<Held>,
    /// The highest revision that was seen in this life of the registry.
    reached: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    /// `meta` as it was when the registry was taken for ours; `None` while it is not.
    fence: Option<Fence>,
    /// The life that `reached` counts in.
    epoch: Option<Epoch>,
}

/// A registry that was taken for ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// Its life.
    pub epoch: Epoch,
    /// Whether it holds every circuit of the store, as far as `meta` says.
    pub is_complete: bool,
    /// Whether it was found to have gone back just now, so that what it holds says nothing against the store.
    pub went_back: bool,
}

/// How far a registry was when it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryPosition {
    /// Its life.
    pub epoch: Epoch,
    /// A revision that it had reached.
    pub revision: Revision,
}

// === impl Standing ===

impl Standing {
    /// What writes must be fenced with; the registry stays taken for ours while this is held.
    pub(super) async fn fence(&self) -> Result<RwLockReadGuard<'_, Fence>, PublishError> {
        let held = self.held.read().await;
        RwLockReadGuard::try_map(held, |held| held.fence.as_ref()).map_err(|_| PublishError::NoStand)
    }

    /// Before a call: the revision that its answer must not be older than.
    pub(super) fn reached(&self) -> Revision {
        Revision(self.reached.load(Ordering::Acquire))
    }

    /// After it.
    pub(super) fn note(&self, before: Revision, now: Revision) -> Result<(), PublishError> {
        if now < before {
            return Err(PublishError::WentBack { from: before, to: now });
        }
        self.reached.fetch_max(now.0, Ordering::AcqRel);
        Ok(())
    }
}

// === impl Publisher ===

impl Publisher {
    /// Takes the registry for ours, or says why not: reads `meta`, and begins a new life where there is none or where
    /// the registry went back behind `known`.
    ///
    /// # Errors
    /// [`PublishError::OtherInstallation`] if it belongs to somebody else; nothing is written then until it does not.
    pub async fn take_stand(
        &self,
        installation_id: InstallationId,
        known: Option<RegistryPosition>,
    ) -> Result<Stand, PublishError> {
        let mut held = self.standing.held.write().await;
        // Whatever fails below: it is to be looked at again before anything is written.
        held.fence = None;
        let (entry, at) = self.registry.get(&self.layout.meta()).await?;
        let meta = entry.as_ref().and_then(|entry| Meta::decode(&entry.value).ok());
        if let Some(meta) = meta.filter(|meta| meta.installation_id != installation_id) {
            return Err(PublishError::OtherInstallation(meta.installation_id));
        }
        let mut went_back = false;
        if let (Some(meta), Some(entry)) = (meta, &entry) {
            let is_same_life = held.epoch == Some(meta.epoch);
            let here = if is_same_life { self.standing.reached() } else { Revision::default() };
            let elsewhere = known.filter(|known| known.epoch == meta.epoch).map(|known| known.revision);
            let seen = here.max(elsewhere.unwrap_or_default());
            if at >= seen {
                self.standing.reached.store(at.0, Ordering::Release);
                held.epoch = Some(meta.epoch);
                held.fence = Some(Fence { key: entry.key.clone(), revision: entry.revision });
                return Ok(Stand { epoch: meta.epoch, is_complete: meta.complete, went_back: false });
            }
            tracing::error!(%seen, now = %at, "the registry went back: beginning a new epoch");
            went_back = true;
        }
        let epoch = Epoch::random();
        let fence = self.begin(Meta { installation_id, epoch, complete: false }, entry.as_ref()).await?;
        self.standing.reached.store(fence.revision.0, Ordering::Release);
        held.epoch = Some(epoch);
        held.fence = Some(fence);
        Ok(Stand { epoch, is_complete: false, went_back })
    }

    /// Begins a life of the registry; edges change nothing until it is complete.
    async fn begin(&self, meta: Meta, found: Option<&Entry>) -> Result<Fence, PublishError> {
        let key = self.layout.meta();
        let expected = found.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        match self.registry.put(&key, expected, meta.encode()?, None).await? {
            Swap::Done(revision) => {
                tracing::info!(epoch = %meta.epoch, %revision, "the registry begins a new epoch");
                Ok(Fence { key, revision })
            }
            Swap::Conflict => Err(PublishError::Replaced),
        }
    }

    /// Says that every circuit of the store is in the registry.
    pub async fn declare_complete(&self, installation_id: InstallationId, stand: Stand) -> Result<(), PublishError> {
        if stand.is_complete {
            return Ok(());
        }
        let mut held = self.standing.held.write().await;
        let Some(known) = held.fence.take() else { return Err(PublishError::Replaced) };
        let value = Meta { installation_id, epoch: stand.epoch, complete: true }.encode()?;
        match self.registry.put(&known.key, Expected::At(known.revision), value, None).await? {
            Swap::Done(revision) => {
                held.fence = Some(Fence { key: known.key, revision });
                Ok(())
            }
            Swap::Conflict => Err(PublishError::Replaced),
        }
    }

    /// A revision that the registry has reached since [`Publisher::take_stand`].
    pub fn reached(&self) -> Revision {
        self.standing.reached()
    }

    /// Notes what a read outside of publishing has shown; `before` was reached when it was asked.
    pub fn note(&self, before: Revision, now: Revision) -> Result<(), PublishError> {
        self.standing.note(before, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use entities::ids::{CircuitKey, Generation};
    use entities::registry::Registry;
    use entities::registry::layout::Layout;
    use entities::registry::memory::MemoryRegistry;

    use super::*;

    fn publisher(registry: &MemoryRegistry) -> Publisher {
        Publisher::new(Arc::new(registry.clone()), Layout::default(), Duration::from_secs(1))
    }

    fn key() -> CircuitKey {
        "s1:jupyter".parse().expect("valid")
    }

    async fn meta(registry: &MemoryRegistry) -> Option<Meta> {
        let (entry, _) = registry.get(&Layout::default().meta()).await.expect("in-process");
        entry.map(|entry| Meta::decode(&entry.value).expect("our own"))
    }

    #[tokio::test]
    async fn nothing_is_written_before_the_registry_was_taken_for_ours() {
        let registry = MemoryRegistry::new();
        let refused = publisher(&registry).publish_closed(&key(), Generation(1)).await;
        assert!(matches!(refused, Err(PublishError::NoStand)), "{refused:?}");
    }

    #[tokio::test]
    async fn the_life_of_a_complete_registry_goes_on_across_coordinators() {
        let (registry, ours) = (MemoryRegistry::new(), InstallationId::random());
        let first = publisher(&registry);
        let stand = first.take_stand(ours, None).await.expect("nobody's");
        assert!(!stand.is_complete);
        first.declare_complete(ours, stand).await.expect("it stands");
        let again = publisher(&registry).take_stand(ours, None).await.expect("ours");
        assert_eq!(again, Stand { epoch: stand.epoch, is_complete: true, went_back: false });
    }

    #[tokio::test]
    async fn nothing_is_written_into_the_registry_of_another_installation() {
        let registry = MemoryRegistry::new();
        let theirs = InstallationId::random();
        publisher(&registry).take_stand(theirs, None).await.expect("nobody's");
        let publisher = publisher(&registry);
        let refused = publisher.take_stand(InstallationId::random(), None).await;
        assert!(matches!(refused, Err(PublishError::OtherInstallation(id)) if id == theirs), "{refused:?}");
        let refused = publisher.publish_closed(&key(), Generation(1)).await;
        assert!(matches!(refused, Err(PublishError::NoStand)), "{refused:?}");
    }

    /// Edges would take the absence of circuits for their end.
    #[tokio::test]
    async fn a_registry_that_was_emptied_meanwhile_is_neither_written_to_nor_declared_complete() {
        let (registry, ours) = (MemoryRegistry::new(), InstallationId::random());
        let publisher = publisher(&registry);
        let stand = publisher.take_stand(ours, None).await.expect("nobody's");
        let (entry, _) = registry.get(&Layout::default().meta()).await.expect("in-process");
        registry.delete(&Layout::default().meta(), entry.expect("just written").revision).await.expect("in-process");
        let refused = publisher.publish_closed(&key(), Generation(1)).await;
        assert!(matches!(refused, Err(PublishError::Replaced)), "{refused:?}");
        let refused = publisher.declare_complete(ours, stand).await;
        assert!(matches!(refused, Err(PublishError::Replaced)), "{refused:?}");
        assert_eq!(meta(&registry).await, None);
    }

    #[tokio::test]
    async fn a_registry_that_went_back_is_noticed_by_the_next_write_and_begins_a_new_life() {
        let (registry, ours) = (MemoryRegistry::new(), InstallationId::random());
        let publisher = publisher(&registry);
        let stand = publisher.take_stand(ours, None).await.expect("nobody's");
        let copy = registry.snapshot();
        publisher.publish_closed(&key(), Generation(1)).await.expect("published");
        registry.restore(copy);
        let refused = publisher.publish_closed(&key(), Generation(1)).await;
        assert!(matches!(refused, Err(PublishError::WentBack { .. })), "{refused:?}");
        let next = publisher.take_stand(ours, None).await.expect("ours");
        assert!(next.went_back && next.epoch != stand.epoch);
        assert_eq!(meta(&registry).await.map(|meta| (meta.epoch, meta.complete)), Some((next.epoch, false)));
        publisher.publish_closed(&key(), Generation(1)).await.expect("published");
    }

    #[tokio::test]
    async fn a_coordinator_that_starts_notices_it_by_what_was_stored() {
        let (registry, ours) = (MemoryRegistry::new(), InstallationId::random());
        let stand = publisher(&registry).take_stand(ours, None).await.expect("nobody's");
        let revision = Revision(publisher(&registry).registry().get("/").await.expect("in-process").1.0 + 1);
        let known = RegistryPosition { epoch: stand.epoch, revision };
        let next = publisher(&registry).take_stand(ours, Some(known)).await.expect("ours");
        assert_ne!(next.epoch, stand.epoch);
        let elsewhere = RegistryPosition { epoch: Epoch::random(), revision: Revision(99) };
        let same = publisher(&registry).take_stand(ours, Some(elsewhere)).await.expect("ours");
        assert_eq!(same.epoch, next.epoch, "revisions of another life say nothing");
    }
}
