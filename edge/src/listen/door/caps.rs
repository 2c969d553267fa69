//! The third step of the door: how many connections each client has.
//!
//! Invariant: a client is remembered exactly while it has a connection, so there are at most as many entries as open
//! connections; a place that is dropped is free again at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use entities::range::AddressRange;
use parking_lot::Mutex;

use crate::client::Client;
use crate::connection::Entrance;
use crate::refusal::Refused;
use crate::reply::Problem;

/// What one subscriber is given of IPv6 at least: an address of its own for each connection must not help.
const SUBSCRIBER_BITS: u32 = 64;

/// Caps the connections of each client, over the whole edge.
pub(super) struct Caps {
    /// Connections of one client; 0 is no cap.
    max: usize,
    /// Who is not counted: load balancers that do not say who their clients are.
    uncounted: Vec<AddressRange>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of a client; dropping it makes room for another.
pub(super) struct ConnectionPermit {
    of: Option<(Arc<Caps>, IpAddr)>,
}

// === impl Caps ===

impl Caps {
    /// No client yet.
    pub(super) fn new(max: usize, uncounted: Vec<AddressRange>) -> Self {
        Self { max, uncounted, open: Mutex::default() }
    }

    /// Lets a connection of `client` pass if it has not as many as it may.
    pub(super) fn pass(self: &Arc<Self>, client: &Client, entrance: Entrance) -> Result<ConnectionPermit, Refused> {
        if client.is_trusted_proxy {
            // It speaks for many.
            return Ok(ConnectionPermit::uncounted());
        }
        let permit = self.enter(client.ip);
        permit.ok_or_else(|| Refused::new(Problem::ClientConnections, entrance.to_string()))
    }

    /// Takes a connection of the client at `ip` in; `None` if it has as many as it may.
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<ConnectionPermit> {
        if self.max == 0 || AddressRange::any_contains(&self.uncounted, ip) {
            return Some(ConnectionPermit::uncounted());
        }
        let subscriber = subscriber(ip);
        let mut open = self.open.lock();
        let count = open.entry(subscriber).or_default();
        // One that is full has an entry already, so nothing is left behind.
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit { of: Some((Arc::clone(self), subscriber)) })
    }
}

/// Who counts as one client.
fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(address) => {
            let bits = u128::from(address) & (u128::MAX << (u128::BITS - SUBSCRIBER_BITS));
            // Loopback and the like have zeros there, and so has nobody else.
            IpAddr::V6(Ipv6Addr::from(bits))
        }
    }
}

// === impl ConnectionPermit ===

impl ConnectionPermit {
    /// One that nobody counts.
    fn uncounted() -> Self {
        Self { of: None }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some((caps, subscriber)) = self.of.take() else { return };
        let mut open = caps.open.lock();
        if let Entry::Occupied(mut entry) = open.entry(subscriber) {
            match entry.get_mut() {
                0 | 1 => {
                    entry.remove();
                }
                count => *count -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_client_that_is_full_gets_a_place_when_a_connection_ends() {
        let caps = Arc::new(Caps::new(2, Vec::new()));
        let first = caps.enter(ip("10.0.0.1")).expect("room");
        let _second = caps.enter(ip("10.0.0.1")).expect("room");
        assert!(caps.enter(ip("10.0.0.1")).is_none());
        assert!(caps.enter(ip("10.0.0.2")).is_some(), "others have room");
        drop(first);
        assert!(caps.enter(ip("10.0.0.1")).is_some());
    }

    #[test]
    fn nobody_is_remembered_without_a_connection() {
        let caps = Arc::new(Caps::new(1, Vec::new()));
        for number in 0..1_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            let place = caps.enter(address);
            assert!(place.is_some() && caps.enter(address).is_none());
        }
        assert!(caps.open.lock().is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_subscriber_are_one_client() {
        let caps = Arc::new(Caps::new(1, Vec::new()));
        let _place = caps.enter(ip("2001:db8:0:1::1")).expect("room");
        assert!(caps.enter(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(caps.enter(ip("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn whoever_is_not_counted_and_everybody_without_a_cap_has_room() {
        let uncounted = vec!["10.0.0.0/8".parse().expect("a range")];
        let caps = Arc::new(Caps::new(1, uncounted));
        let places: Vec<_> = (0..9).map(|_| caps.enter(ip("10.0.0.1"))).collect();
        assert!(places.iter().all(Option::is_some) && caps.open.lock().is_empty());
        let uncapped = Arc::new(Caps::new(0, Vec::new()));
        let places: Vec<_> = (0..9).map(|_| uncapped.enter(ip("192.0.2.1"))).collect();
        assert!(places.iter().all(Option::is_some) && uncapped.open.lock().is_empty());
    }
}
