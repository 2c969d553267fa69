//! When the next request of each client is due, for all rules of the process.
//!
//! A flood of addresses makes the edge forget those that came longest ago. That gives nobody an advantage: who has so many
//! addresses has a burst with each of them anyway.
//!
//! Invariant: at most [`MAX_CLIENTS`] are remembered.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use lru::LruCache;
use parking_lot::Mutex;

/// Clients that are remembered: at 90 bytes each they take 12 MiB.
pub(super) const MAX_CLIENTS: usize = 131_072;

/// So that threads rarely wait for each other.
const SHARDS: usize = 16;

/// One client of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    rule: u64,
    network: Network,
}

/// Addresses that are one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    /// The first 64 bits: the rest is what one machine chooses for itself (RFC 4291 §2.5.1).
    V6(u64),
}

/// All clients.
pub(super) struct Clients {
    hasher: RandomState,
    shards: [Mutex<LruCache<Key, u64, RandomState>>; SHARDS],
}

// === impl Key ===

impl Key {
    /// The client at `ip` of the rule with this number.
    pub(super) fn new(rule: u64, ip: IpAddr) -> Self {
        let network = match ip.to_canonical() {
            IpAddr::V4(ip) => Network::V4(ip.to_bits()),
            IpAddr::V6(ip) => Network::V6((ip.to_bits() >> 64) as u64),
        };
        Self { rule, network }
    }
}

// === impl Clients ===

impl Clients {
    /// Replaces what is remembered of a client, 0 if nothing is, unless `change` fails.
    pub(super) fn update<E>(&self, key: Key, change: impl FnOnce(u64) -> Result<u64, E>) -> Result<(), E> {
        let shard = (self.hasher.hash_one(key) as usize) % SHARDS;
        let Some(shard) = self.shards.get(shard) else { return Ok(()) };
        let mut clients = shard.lock();
        if let Some(due_ns) = clients.get_mut(&key) {
            *due_ns = change(*due_ns)?;
            return Ok(());
        }
        let due_ns = change(0)?;
        clients.put(key, due_ns);
        if clients.len() > MAX_CLIENTS / SHARDS {
            clients.pop_lru();
        }
        Ok(())
    }
}

impl Default for Clients {
    fn default() -> Self {
        // One that is made with its limit takes the memory at once.
        let shard = |_| Mutex::new(LruCache::unbounded_with_hasher(RandomState::new()));
        Self { hasher: RandomState::new(), shards: std::array::from_fn(shard) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn seen(clients: &Clients, number: u32) -> u64 {
        let mut before = 0;
        let key = Key::new(1, Ipv4Addr::from_bits(number).into());
        clients
            .update(key, |due_ns| {
                before = due_ns;
                Ok::<u64, ()>(due_ns + 1)
            })
            .expect("changes");
        before
    }

    #[test]
    fn a_flood_of_addresses_is_forgotten_and_who_comes_often_is_not() {
        let clients = Clients::default();
        for number in 1..=4 * u32::try_from(MAX_CLIENTS).expect("small") {
            seen(&clients, number);
            if number % 1_000 == 0 {
                assert_eq!(seen(&clients, 0), u64::from(number / 1_000 - 1));
            }
        }
        let remembered: usize = clients.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(remembered <= MAX_CLIENTS, "{remembered}");
        assert_eq!(seen(&clients, 1), 0, "long ago");
    }

    #[test]
    fn what_is_refused_takes_no_room() {
        let clients = Clients::default();
        assert_eq!(clients.update(Key::new(1, Ipv4Addr::LOCALHOST.into()), |_| Err(7)), Err(7));
        assert!(clients.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
