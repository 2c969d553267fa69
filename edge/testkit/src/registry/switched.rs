//! A registry that a test takes away, brings back and exchanges.
//!
//! Invariant: while it is away every call fails and no watch lives; after an exchange nothing comes from the old one.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use entities::ids::Revision;
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Entry, Expected, LeaseId, Listing, Registry, RegistryError, Swap, Watch, Write};
use tokio::sync::watch;

/// What an edge or a coordinator is given instead of the registry itself. Clones share their state.
#[derive(Debug, Clone)]
pub struct SwitchedRegistry(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    inner: MemoryRegistry,
    is_away: bool,
    is_silent: watch::Sender<bool>,
}

impl SwitchedRegistry {
    /// `inner`, within reach.
    pub fn new(inner: MemoryRegistry) -> Self {
        Self(Arc::new(Mutex::new(State { inner, is_away: false, is_silent: watch::Sender::new(false) })))
    }

    /// Takes it out of reach.
    pub fn take_away(&self) {
        let mut state = self.state();
        state.is_away = true;
        state.inner.end_watches();
    }

    /// Brings it back within reach.
    pub fn bring_back(&self) {
        let mut state = self.state();
        state.is_away = false;
        state.is_silent.send_replace(false);
    }

    /// From now on nobody gets a list, nor an error, until it is brought back.
    pub fn silence(&self) {
        self.state().is_silent.send_replace(true);
    }

    /// From now on it is `other`, whether within reach or not.
    pub fn exchange(&self, other: MemoryRegistry) {
        let mut state = self.state();
        state.inner.end_watches();
        state.inner = other;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test thread panics with it")
    }

    fn inner(&self) -> Result<MemoryRegistry, RegistryError> {
        let state = self.state();
        if state.is_away { Err(RegistryError::Unavailable("taken away".to_owned())) } else { Ok(state.inner.clone()) }
    }
}

/// A registry with the keys that `original` has now, as if restored from a copy: its revision is their number, which
/// is lower than that of an original in which anything was ever written twice.
pub async fn copy_of(original: &MemoryRegistry) -> MemoryRegistry {
    let copy = MemoryRegistry::new();
    for entry in original.list("").await.expect("in memory").entries {
        copy.put(&entry.key, Expected::Absent, entry.value, None).await.expect("in memory");
    }
    copy
}

#[async_trait]
impl Registry for SwitchedRegistry {
    async fn list(&self, prefix: &str) -> Result<Listing, RegistryError> {
        let mut is_silent = self.state().is_silent.subscribe();
        // An error means that this registry is gone, and then nobody waits.
        let _ = is_silent.wait_for(|is_silent| !is_silent).await;
        self.inner()?.list(prefix).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, RegistryError> {
        // Under the lock, so that no watch begins at a registry that has just gone.
        let watching = {
            let state = self.state();
            if state.is_away {
                return Err(RegistryError::Unavailable("taken away".to_owned()));
            }
            state.inner.clone()
        };
        let watch = watching.watch(prefix, from).await?;
        if self.inner().is_err() {
            watching.end_watches();
        }
        Ok(watch)
    }

    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), RegistryError> {
        self.inner()?.get(key).await
    }

    async fn write(&self, write: Write<'_>) -> Result<Swap, RegistryError> {
        self.inner()?.write(write).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.inner()?.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.inner()?.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.inner()?.revoke_lease(lease).await
    }
}
