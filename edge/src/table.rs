//! Circuits by host and by port.
//!
//! Invariant: a look-up takes one short read lock, a change one short write lock of one shard; neither depends on
//! how many circuits there are. Only `sync` writes.

pub(crate) mod ledger;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use entities::ids::Port;
use parking_lot::RwLock;

use crate::circuit::LiveCircuit;
use crate::slot::Slot;

/// A shard of 50,000 circuits holds 800, so that growing one blocks its readers for microseconds.
const SHARDS: usize = 64;

/// All circuits that are served.
pub(crate) struct Table {
    by_host: Shards<Box<str>>,
    by_port: Shards<u16>,
}

struct Shards<K> {
    hasher: RandomState,
    shards: Box<[Shard<K>]>,
}

type Shard<K> = RwLock<HashMap<K, Arc<LiveCircuit>>>;

// === impl Table ===

impl Table {
    /// An empty table.
    pub(crate) fn new() -> Self {
        Self { by_host: Shards::new(), by_port: Shards::new() }
    }

    /// The circuit at `host`, which must be in normal form.
    pub(crate) fn by_host(&self, host: &str) -> Option<Arc<LiveCircuit>> {
        self.by_host.get(host)
    }

    /// The circuit at `port`.
    pub(crate) fn by_port(&self, port: Port) -> Option<Arc<LiveCircuit>> {
        self.by_port.get(&port.number())
    }

    /// The circuit in `slot`.
    pub(crate) fn get(&self, slot: &Slot) -> Option<Arc<LiveCircuit>> {
        match slot {
            Slot::Host(host) => self.by_host(host.as_str()),
            Slot::Port(port) => self.by_port(*port),
        }
    }

    /// Puts a circuit into its slot; one that was there before gives way.
    pub(crate) fn put(&self, circuit: Arc<LiveCircuit>) {
        match &circuit.slot {
            Slot::Host(host) => self.by_host.put(host.as_str().into(), Arc::clone(&circuit)),
            Slot::Port(port) => self.by_port.put(port.number(), Arc::clone(&circuit)),
        }
    }

    /// Takes the circuit out of `slot`.
    pub(crate) fn remove(&self, slot: &Slot) -> Option<Arc<LiveCircuit>> {
        match slot {
            Slot::Host(host) => self.by_host.remove(host.as_str()),
            Slot::Port(port) => self.by_port.remove(&port.number()),
        }
    }
}

// === impl Shards ===

impl<K: Hash + Eq> Shards<K> {
    fn new() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> Option<&Shard<K>> {
        // `SHARDS` is small, so the hash modulo it fits into any `usize`.
        let index = self.hasher.hash_one(key) % SHARDS as u64;
        self.shards.get(index as usize)
    }

    fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Arc<LiveCircuit>>
    where
        K: Borrow<Q>,
    {
        self.shard(key)?.read().get(key).cloned()
    }

    fn put(&self, key: K, circuit: Arc<LiveCircuit>) {
        if let Some(shard) = self.shard(&key) {
            shard.write().insert(key, circuit);
        }
    }

    fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<Arc<LiveCircuit>>
    where
        K: Borrow<Q>,
    {
        self.shard(key)?.write().remove(key)
    }
}
