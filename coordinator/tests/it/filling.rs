//! Filling an empty registry: many circuits at a time, and complete only with all of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coordinator::acks::Acks;
use coordinator::metrics::Metrics;
use coordinator::publish::Publisher;
use coordinator::reconcile::Reconcile;
use entities::clock::Clock as _;
use entities::ids::Revision;
use entities::registry::layout::{Layout, Meta, Place};
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Entry, LeaseId, Listing, Registry, RegistryError, Swap, Watch, Write};
use testkit::wait::within;
use tokio::sync::{Barrier, Notify};

use crate::crashes::open_in_store;
use crate::harness::{Ground, circuit, patient, signing_keys};

/// A registry in which the write of a circuit waits for that of another one.
struct MeetingRegistry {
    inner: MemoryRegistry,
    meeting: Barrier,
}

#[async_trait]
impl Registry for MeetingRegistry {
    async fn list(&self, prefix: &str) -> Result<Listing, RegistryError> {
        self.inner.list(prefix).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, RegistryError> {
        self.inner.watch(prefix, from).await
    }

    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), RegistryError> {
        self.inner.get(key).await
    }

    async fn write(&self, write: Write<'_>) -> Result<Swap, RegistryError> {
        if matches!(Layout::default().parse(write.key), Place::Circuit(_)) {
            self.meeting.wait().await;
        }
        self.inner.write(write).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.inner.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.inner.revoke_lease(lease).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_registry_is_filled_several_circuits_at_a_time_and_then_declared_complete() {
    let ground = Ground::new();
    let store = ground.store().await;
    for number in 0..20 {
        open_in_store(&ground, &store, &circuit(&format!("s{number}"), "app")).await;
    }
    let registry = Arc::new(MeetingRegistry { inner: ground.registry.clone(), meeting: Barrier::new(2) });
    let installation_id = store.installation(ground.clock.now_ms()).await.unwrap();
    let reconcile = Reconcile::new(
        store,
        Publisher::new(registry, Layout::default(), Duration::from_secs(10)),
        Acks::new(),
        Arc::new(ground.clock.clone()),
        patient(),
        Metrics::new().unwrap(),
        installation_id,
        signing_keys().public(),
        Arc::new(Notify::new()),
    );
    within("a round of reconcile", reconcile.round()).await.unwrap();

    let layout = Layout::default();
    let circuits = ground.registry.list(&layout.circuits()).await.unwrap().entries;
    assert_eq!(circuits.len(), 20);
    let meta = ground.registry.get(&layout.meta()).await.unwrap().0.unwrap();
    assert!(Meta::decode(&meta.value).unwrap().complete);
    assert!(circuits.iter().all(|circuit| circuit.revision < meta.revision), "complete before it was");
}
