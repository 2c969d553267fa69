//! The in-process registry: coordinator and edge in one program.
//!
//! It keeps nothing on disk: a program that starts fills it from the store under a new epoch.
//!
//! Invariant: under the one lock, the keys are exactly what the history's events lead to, and a watch that starts
//! from a revision sees every event from there on or is refused.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Batch, Change, Entry, Event, Expected, LeaseId, Listing, Registry, RegistryError, Swap, Watch, Write};
use crate::ids::Revision;
use crate::limits::{HISTORY_EVENTS, MAX_REGISTRY_VALUE_BYTES, WATCH_QUEUE_BATCHES};

/// The registry of a program that is coordinator and edge at once. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryRegistry {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    keys: BTreeMap<String, Stored>,
    /// Newest last; events before `kept_from` are gone.
    history: VecDeque<Event>,
    kept_from: Revision,
    watchers: Vec<Watcher>,
    leases: HashMap<LeaseId, Lease>,
    last_lease: i64,
}

/// A copy of what a registry held. Leases are not part of it: their keys stay.
#[derive(Debug, Clone)]
pub struct Snapshot {
    revision: Revision,
    keys: BTreeMap<String, Stored>,
}

#[derive(Debug, Clone)]
struct Stored {
    value: Vec<u8>,
    revision: Revision,
    lease: Option<LeaseId>,
}

#[derive(Debug)]
struct Watcher {
    prefix: String,
    queue: mpsc::Sender<Batch>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends_at: Instant,
}

// === impl MemoryRegistry ===

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every watch, as a lost connection to a registry elsewhere would: each reader lists again.
    pub fn end_watches(&self) {
        self.lock().watchers.clear();
    }

    /// What it holds, for [`MemoryRegistry::restore`].
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot { revision: state.revision, keys: state.keys.clone() }
    }

    /// Goes back to what it was when `snapshot` was taken, as etcd does when it is restored: the revision goes back
    /// too, and every watch ends.
    pub fn restore(&self, snapshot: Snapshot) {
        let mut state = self.lock();
        let Snapshot { revision, keys } = snapshot;
        *state = State { revision, keys, kept_from: revision.next(), ..State::default() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the state whole before it can panic, so a poisoned lock is still good.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.end_leases(Instant::now());
        state
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn list(&self, prefix: &str) -> Result<Listing, RegistryError> {
        let state = self.lock();
        let entries = state
            .keys
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, stored)| stored.entry(key))
            .collect();
        Ok(Listing { revision: state.revision, entries })
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, RegistryError> {
        let mut state = self.lock();
        if from < state.kept_from {
            return Err(RegistryError::Compacted(from));
        }
        let (queue, receiver) = mpsc::channel(WATCH_QUEUE_BATCHES);
        let missed: Vec<Event> = state
            .history
            .iter()
            .filter(|event| event.revision() >= from && event.key().starts_with(prefix))
            .cloned()
            .collect();
        if !missed.is_empty() {
            let batch = Batch { revision: state.revision, events: missed };
            if queue.try_send(batch).is_err() {
                return Err(RegistryError::Unavailable("the new watch took no batch".to_owned()));
            }
        }
        state.watchers.retain(|watcher| !watcher.queue.is_closed());
        state.watchers.push(Watcher { prefix: prefix.to_owned(), queue });
        Ok(Watch::new(receiver))
    }

    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), RegistryError> {
        let state = self.lock();
        Ok((state.keys.get(key).map(|stored| stored.entry(key)), state.revision))
    }

    async fn write(&self, write: Write<'_>) -> Result<Swap, RegistryError> {
        if let Change::Put { value, .. } = &write.change
            && value.len() > MAX_REGISTRY_VALUE_BYTES
        {
            return Err(RegistryError::ValueTooLarge { bytes: value.len(), limit: MAX_REGISTRY_VALUE_BYTES });
        }
        let mut state = self.lock();
        if let Change::Put { lease: Some(lease), .. } = write.change
            && !state.leases.contains_key(&lease)
        {
            return Err(RegistryError::LeaseEnded);
        }
        let is_fenced_off = write.fence.is_some_and(|fence| state.expected(&fence.key) != Expected::At(fence.revision));
        if is_fenced_off || state.expected(write.key) != write.expected {
            return Ok(Swap::Conflict);
        }
        Ok(Swap::Done(match write.change {
            Change::Put { value, lease } => state.put_key(write.key, value, lease),
            Change::Delete => state.delete_keys(vec![write.key.to_owned()]),
        }))
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        let mut state = self.lock();
        state.last_lease += 1;
        let id = LeaseId(state.last_lease);
        state.leases.insert(id, Lease { ttl, ends_at: Instant::now() + ttl });
        Ok(id)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        let mut state = self.lock();
        let lease = state.leases.get_mut(&lease).ok_or(RegistryError::LeaseEnded)?;
        lease.ends_at = Instant::now() + lease.ttl;
        Ok(())
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.lock().end_lease(lease);
        Ok(())
    }
}

// === impl State ===

impl State {
    /// Notes what a revision did and tells the watches that care.
    fn record(&mut self, revision: Revision, events: Vec<Event>) {
        self.revision = revision;
        self.watchers.retain(|watcher| {
            let mine: Vec<Event> =
                events.iter().filter(|event| event.key().starts_with(&watcher.prefix)).cloned().collect();
            // A reader that is too far behind loses its watch and lists again; the queue never grows.
            mine.is_empty() || watcher.queue.try_send(Batch { revision, events: mine }).is_ok()
        });
        self.history.extend(events);
        while self.history.len() > HISTORY_EVENTS {
            if let Some(dropped) = self.history.pop_front() {
                self.kept_from = dropped.revision().next();
            }
        }
    }

    /// What a write must expect of a key as it stands.
    fn expected(&self, key: &str) -> Expected {
        self.keys.get(key).map_or(Expected::Absent, |stored| Expected::At(stored.revision))
    }

    fn put_key(&mut self, key: &str, value: Vec<u8>, lease: Option<LeaseId>) -> Revision {
        let revision = self.revision.next();
        let stored = Stored { value, revision, lease };
        let event = Event::Put(stored.entry(key));
        self.keys.insert(key.to_owned(), stored);
        self.record(revision, vec![event]);
        revision
    }

    fn delete_keys(&mut self, keys: Vec<String>) -> Revision {
        let revision = self.revision.next();
        for key in &keys {
            self.keys.remove(key);
        }
        let events = keys.into_iter().map(|key| Event::Deleted { key, revision }).collect();
        self.record(revision, events);
        revision
    }

    fn end_leases(&mut self, now: Instant) {
        let ended: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.ends_at <= now).map(|(id, _)| *id).collect();
        for lease in ended {
            self.end_lease(lease);
        }
    }

    fn end_lease(&mut self, lease: LeaseId) {
        if self.leases.remove(&lease).is_none() {
            return;
        }
        let keys: Vec<String> =
            self.keys.iter().filter(|(_, stored)| stored.lease == Some(lease)).map(|(key, _)| key.clone()).collect();
        if !keys.is_empty() {
            self.delete_keys(keys);
        }
    }
}

impl Stored {
    fn entry(&self, key: &str) -> Entry {
        Entry { key: key.to_owned(), value: self.value.clone(), revision: self.revision }
    }
}

impl Event {
    fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.revision,
            Self::Deleted { revision, .. } => *revision,
        }
    }
}
