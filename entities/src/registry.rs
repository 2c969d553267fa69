//! What edges watch: the contract between coordinators and edges.
//!
//! The rule of the reader is `list → diff → watch from the revision after → on any end, list again`; a registry
//! never has to say why a watch ended.
//!
//! Invariant: a write happens only by compare-and-swap on the revision of the key that was read before.

#[cfg(feature = "etcd")]
pub mod etcd;
pub mod layout;
pub mod memory;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::ids::{Epoch, Revision};
use layout::Meta;

/// Why the registry did not answer. Every case may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The registry cannot be reached or does not answer in time.
    #[error("the registry is not available: {0}")]
    Unavailable(String),
    /// The revision to watch from is no longer kept: list again.
    #[error("revision {0} is no longer kept")]
    Compacted(Revision),
    /// The lease has ended; its keys are gone.
    #[error("the lease has ended")]
    LeaseEnded,
    /// The value is larger than a key may hold.
    #[error("a value of {bytes} bytes is over the limit of {limit}")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// One key as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision that wrote it last.
    pub revision: Revision,
}

/// All keys under a prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The revision at which the keys stood so; a watch goes on from the one after.
    pub revision: Revision,
    /// The keys in order.
    pub entries: Vec<Entry>,
}

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key has this value now.
    Put(Entry),
    /// The key is gone.
    Deleted {
        /// The whole key.
        key: String,
        /// The revision that deleted it.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Deleted { key, .. } => key,
        }
    }
}

/// Changes in order. After a batch, every event up to and including its revision has been delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The last revision that the batch covers.
    pub revision: Revision,
    /// The changes under the watched prefix.
    pub events: Vec<Event>,
}

/// A running watch. When it yields `None` it has ended, for whatever reason: list again.
#[derive(Debug)]
pub struct Watch(mpsc::Receiver<Batch>);

impl Watch {
    /// A watch that yields what the other end of `receiver` sends.
    pub fn new(receiver: mpsc::Receiver<Batch>) -> Self {
        Self(receiver)
    }

    /// The next batch, as soon as there is one.
    pub async fn next(&mut self) -> Option<Batch> {
        self.0.recv().await
    }

    /// The next batch if it is here already.
    pub fn next_ready(&mut self) -> Option<Batch> {
        self.0.try_recv().ok()
    }
}

/// What a key must be for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// There is no such key.
    Absent,
    /// This revision wrote it last.
    At(Revision),
}

/// Another key that must be as it was read for a write to happen. Whoever writes that key fences off everybody who
/// does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The whole key.
    pub key: String,
    /// The revision that must have written it last.
    pub revision: Revision,
}

/// One change.
#[derive(Debug)]
pub struct Write<'a> {
    /// The whole key.
    pub key: &'a str,
    /// What it must be.
    pub expected: Expected,
    /// What it becomes.
    pub change: Change,
    /// What must stand besides.
    pub fence: Option<&'a Fence>,
}

/// What a key becomes.
#[derive(Debug)]
pub enum Change {
    /// It has this value.
    Put {
        /// The value.
        value: Vec<u8>,
        /// With a lease the key goes when the lease ends.
        lease: Option<LeaseId>,
    },
    /// It is gone.
    Delete,
}

/// How a compare-and-swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Written, at this revision.
    Done(Revision),
    /// The key is not what was expected, or the fence does not stand; nothing was written.
    Conflict,
}

/// Names a lease of one registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// What coordinators write and edges watch.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Every key under `prefix`, all at one revision.
    async fn list(&self, prefix: &str) -> Result<Listing, RegistryError>;

    /// Every change under `prefix` from `from` on, `from` included.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, RegistryError>;

    /// One key, and the revision at which the registry is.
    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), RegistryError>;

    /// Makes a change if the key is as expected and the fence, if there is one, stands.
    async fn write(&self, write: Write<'_>) -> Result<Swap, RegistryError>;

    /// Writes `key` if it is as `expected`; with a lease the key goes when the lease ends.
    async fn put(
        &self,
        key: &str,
        expected: Expected,
        value: Vec<u8>,
        lease: Option<LeaseId>,
    ) -> Result<Swap, RegistryError> {
        self.write(Write { key, expected, change: Change::Put { value, lease }, fence: None }).await
    }

    /// Deletes `key` if revision `expected` wrote it last.
    async fn delete(&self, key: &str, expected: Revision) -> Result<Swap, RegistryError> {
        self.write(Write { key, expected: Expected::At(expected), change: Change::Delete, fence: None }).await
    }

    /// A new lease that ends after `ttl` without [`Registry::keep_alive`].
    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError>;

    /// Lets the lease live another `ttl` from now.
    ///
    /// # Errors
    /// [`RegistryError::LeaseEnded`] if it has ended: ask for a new one and write its keys again.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError>;

    /// Ends the lease and deletes its keys.
    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), RegistryError>;

    /// Which life of the registry this is; `None` before a first full publish.
    async fn epoch(&self, layout: &layout::Layout) -> Result<Option<Epoch>, RegistryError> {
        let (entry, _) = self.get(&layout.meta()).await?;
        Ok(entry.and_then(|entry| Meta::decode(&entry.value).ok()).map(|meta| meta.epoch))
    }
}
