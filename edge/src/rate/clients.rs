//! When the next request of each client is due, for all rules of the process.
//!
//! Each shard has the clients that came lately and those that came before them; when the former are many, the latter go. So a
//! flood of addresses makes the edge forget those that came longest ago. That gives nobody an advantage: who has so many
//! addresses has a burst with each of them anyway.
//!
//! Invariant: at most [`MAX_CLIENTS`] are remembered.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::net::IpAddr;

use parking_lot::Mutex;

/// Clients that are remembered: with the spare room of their tables they take 70 bytes each, 9 MiB.
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
    shards: [Mutex<Shard>; SHARDS],
}

/// A part of them: when the next request of each is due.
#[derive(Default)]
struct Shard {
    lately: HashMap<Key, u64>,
    before: HashMap<Key, u64>,
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
        let mut shard = shard.lock();
        if let Some(due_ns) = shard.lately.get_mut(&key) {
            *due_ns = change(*due_ns)?;
            return Ok(());
        }
        let due_ns = change(shard.before.get(&key).copied().unwrap_or(0))?;
        shard.before.remove(&key);
        if shard.lately.len() >= MAX_CLIENTS / SHARDS / 2 {
            // The table is used again, so that its room need not grow anew.
            let mut emptied = mem::take(&mut shard.before);
            emptied.clear();
            shard.before = mem::replace(&mut shard.lately, emptied);
        }
        shard.lately.insert(key, due_ns);
        Ok(())
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: Default::default() }
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

    fn remembered(clients: &Clients) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.lately.len() + shard.before.len()
        };
        clients.shards.iter().map(count).sum()
    }

    #[test]
    fn a_flood_of_addresses_is_forgotten_and_who_comes_often_is_not() {
        let clients = Clients::default();
        for number in 1..=4 * u32::try_from(MAX_CLIENTS).expect("small") {
            seen(&clients, number);
            if number % 1_000 == 0 {
                assert_eq!(seen(&clients, 0), u64::from(number / 1_000 - 1));
                assert!(remembered(&clients) <= MAX_CLIENTS);
            }
        }
        assert!(remembered(&clients) >= MAX_CLIENTS / 3);
        assert_eq!(seen(&clients, 1), 0, "long ago");
    }

    #[test]
    fn what_is_refused_takes_no_room() {
        let clients = Clients::default();
        assert_eq!(clients.update(Key::new(1, Ipv4Addr::LOCALHOST.into()), |_| Err(7)), Err(7));
        assert_eq!(remembered(&clients), 0);
    }

    #[test]
    fn a_refusal_changes_nothing() {
        let clients = Clients::default();
        assert_eq!((seen(&clients, 7), seen(&clients, 7)), (0, 1));
        assert_eq!(clients.update(Key::new(1, Ipv4Addr::from_bits(7).into()), Err::<u64, u64>), Err(2));
        assert_eq!(seen(&clients, 7), 2);
    }
}
