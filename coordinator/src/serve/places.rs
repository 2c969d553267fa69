//! How many connections there are, in all and of each client.
//!
//! Invariant: a place is given back when its [`Place`] is dropped, and a client without connections costs no memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// An IPv6 client has a whole /64 to choose addresses from.
const CLIENT_PREFIX_V6: u128 = !0 << 64;

/// The places of one socket.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    most_per_client: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// There are too many connections.
    All,
    /// There are too many of this client.
    Client,
}

// === impl Places ===

impl Places {
    pub(super) fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_client, taken: Mutex::default() })
    }

    /// Takes a place for a connection of `address`; one that `is_proxy` is counted in all only.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Result<Place, NoPlace> {
        let client = client_of(address);
        let mut taken = self.lock();
        let count = taken.by_client.get(&client).copied().unwrap_or(0);
        if taken.all >= self.most {
            return Err(NoPlace::All);
        }
        if !is_proxy && count >= self.most_per_client {
            return Err(NoPlace::Client);
        }
        taken.all += 1;
        taken.by_client.insert(client, count + 1);
        Ok(Place { places: Arc::clone(self), client })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.by_client.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & CLIENT_PREFIX_V6).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_client_has_its_share_and_all_have_theirs() {
        let places = Places::new(3, 2);
        let (a, b) = (address("192.0.2.1"), address("192.0.2.2"));
        let _first = places.take(a, false).expect("a place");
        let second = places.take(a, false).expect("a place");
        assert_eq!(places.take(address("::ffff:192.0.2.1"), false).expect_err("full"), NoPlace::Client);
        let _third = places.take(b, false).expect("a place");
        assert_eq!(places.take(b, false).expect_err("full"), NoPlace::All);
        drop(second);
        places.take(a, false).expect("a place again");
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one_client() {
        let places = Places::new(9, 1);
        let _first = places.take(address("2001:db8::1"), false).expect("a place");
        assert_eq!(places.take(address("2001:db8::2"), false).expect_err("full"), NoPlace::Client);
        places.take(address("2001:db8:0:1::1"), false).expect("another network");
    }

    #[test]
    fn a_proxy_is_many_clients_and_who_has_gone_is_forgotten() {
        let places = Places::new(9, 1);
        let taken: Vec<Place> = (0..9).map(|_| places.take(address("10.0.0.1"), true).expect("a place")).collect();
        drop(taken);
        assert!(places.lock().by_client.is_empty());
    }
}
