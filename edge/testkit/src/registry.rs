//! Registries that are some way off, or that come and go.
//!
//! Invariant: a late one delivers the same batches in the same order as the one that it wraps, each a fixed time later.

mod switched;

use std::time::Duration;

use async_trait::async_trait;
use entities::ids::Revision;
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Entry, LeaseId, Listing, Registry, RegistryError, Swap, Watch, Write};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use switched::{SwitchedRegistry, copy_of};

/// Writes are seen at once by those who read, and late by those who watch: as with a network in between.
#[derive(Debug, Clone)]
pub struct LateRegistry {
    inner: MemoryRegistry,
    lag: Duration,
}

impl LateRegistry {
    /// `inner`, whose watches are `lag` behind.
    pub fn new(inner: MemoryRegistry, lag: Duration) -> Self {
        Self { inner, lag }
    }
}

#[async_trait]
impl Registry for LateRegistry {
    async fn list(&self, prefix: &str) -> Result<Listing, RegistryError> {
        self.inner.list(prefix).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, RegistryError> {
        let mut prompt = self.inner.watch(prefix, from).await?;
        let lag = self.lag;
        let (arrived, mut waiting) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(batch) = prompt.next().await {
                if arrived.send((Instant::now() + lag, batch)).is_err() {
                    return;
                }
            }
        });
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some((due, batch)) = waiting.recv().await {
                tokio::time::sleep_until(due).await;
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
        Ok(Watch::new(receiver))
    }

    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), RegistryError> {
        self.inner.get(key).await
    }

    async fn write(&self, write: Write<'_>) -> Result<Swap, RegistryError> {
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
