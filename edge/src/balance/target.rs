//! One target as pingora connects to it.
//!
//! Invariant: two circuits never share a connection to a target, even to one address: the group key of the
//! connection pool is made of the circuit's id and the target.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entities::circuit::Backend;
use entities::ids::CircuitId;
use entities::target::Target;
use parking_lot::Mutex;
use pingora_core::upstreams::peer::HttpPeer;

use crate::circuit::TimeLimits;

/// How long an idle connection to a target waits for the next request.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Requests under way on one HTTP/2 connection to a target; more take another connection. Servers of gRPC allow 100
/// or more, and what they allow counts if it is less.
const MAX_STREAMS: usize = 100;

/// How often an HTTP/2 target must show that it is there. Servers of gRPC cut a client that asks more than every five
/// minutes; this is a tenth more.
const PING_INTERVAL: Duration = Duration::from_secs(330);

/// How long the addresses of a name are used without asking again. Short, because containers move; not zero, because
/// every look-up takes a thread.
const RESOLUTION_TIME: Duration = Duration::from_secs(5);

/// A target, with all that can be prepared before a request comes.
pub(crate) struct TargetPeer {
    /// Its place in the circuit's list.
    pub(super) index: usize,
    /// What the circuit says.
    target: Target,
    rules: PeerRules,
    group_key: u64,
    address: Address,
}

/// How to connect to the targets of a circuit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerRules {
    /// What they speak.
    pub(crate) backend: Backend,
    /// How long things may take.
    pub(crate) limits: TimeLimits,
}

enum Address {
    /// An IP literal: the peer is always the same.
    Literal(SocketAddr, Box<HttpPeer>),
    /// A name, and what it meant when it was last looked up.
    Name(Mutex<Option<Resolved>>),
}

#[derive(Clone)]
struct Resolved {
    addresses: Arc<[SocketAddr]>,
    at: Instant,
}

/// Why there is no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The look-up failed.
    #[error("the name does not resolve: {0}")]
    Failed(#[from] std::io::Error),
    /// The look-up took longer than connecting may.
    #[error("the name did not resolve within {0:?}")]
    TimedOut(Duration),
    /// The name has no address, or none that has not been tried.
    #[error("the name has no further address")]
    NoAddress,
}

// === impl TargetPeer ===

impl TargetPeer {
    pub(super) fn new(circuit: CircuitId, index: usize, target: Target, rules: PeerRules) -> Self {
        let mut hasher = DefaultHasher::new();
        (circuit, &target.host, target.port).hash(&mut hasher);
        let group_key = hasher.finish();
        let address = match target.host.ip() {
            Some(ip) => {
                let address = SocketAddr::new(ip, target.port.number());
                Address::Literal(address, Box::new(peer(address, group_key, &rules)))
            }
            None => Address::Name(Mutex::new(None)),
        };
        Self { index, target, rules, group_key, address }
    }

    /// Its place in the circuit's list.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// What the circuit says.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// How many addresses it is known to have.
    pub(crate) fn addresses(&self) -> usize {
        match &self.address {
            Address::Literal(..) => 1,
            Address::Name(known) => known.lock().as_ref().map_or(0, |resolved| resolved.addresses.len()),
        }
    }

    /// The address with this number, counted from 0; a request that failed at one tries the next.
    pub(crate) async fn address(&self, number: usize) -> Result<SocketAddr, ResolveError> {
        match &self.address {
            Address::Literal(address, _) => Ok(*address),
            Address::Name(known) => self.resolve(known).await?.get(number).copied().ok_or(ResolveError::NoAddress),
        }
    }

    /// How pingora connects to one of its addresses.
    pub(crate) fn peer(&self, address: SocketAddr) -> Box<HttpPeer> {
        match &self.address {
            Address::Literal(_, peer) => peer.clone(),
            Address::Name(_) => Box::new(peer(address, self.group_key, &self.rules)),
        }
    }

    async fn resolve(&self, known: &Mutex<Option<Resolved>>) -> Result<Arc<[SocketAddr]>, ResolveError> {
        let fresh = known.lock().clone().filter(|resolved| resolved.at.elapsed() < RESOLUTION_TIME);
        if let Some(resolved) = fresh {
            return Ok(resolved.addresses);
        }
        let look_up = tokio::net::lookup_host((self.target.host.as_str(), self.target.port.number()));
        let found = tokio::time::timeout(self.rules.limits.connect, look_up)
            .await
            .map_err(|_| ResolveError::TimedOut(self.rules.limits.connect))??;
        let addresses: Arc<[SocketAddr]> = found.collect();
        *known.lock() = Some(Resolved { addresses: Arc::clone(&addresses), at: Instant::now() });
        Ok(addresses)
    }
}

fn peer(address: SocketAddr, group_key: u64, rules: &PeerRules) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = group_key;
    peer.options.connection_timeout = Some(rules.limits.connect);
    peer.options.total_connection_timeout = Some(rules.limits.connect);
    peer.options.idle_timeout = Some(IDLE_TIME);
    // No read timeout for HTTP/1.1: it would also end silent streams of events.
    if rules.backend == Backend::H2 {
        // Both limits the same: without TLS this means HTTP/2 by prior knowledge.
        peer.options.set_http_version(2, 2);
        peer.options.max_h2_streams = MAX_STREAMS;
        peer.options.h2_ping_interval = Some(PING_INTERVAL);
        // Pingora has no other limit for the first byte, so this one is for every pause of the answer.
        peer.options.read_timeout = rules.limits.first_byte;
    }
    peer
}

#[cfg(test)]
pub(super) mod tests {
    use pingora_core::upstreams::peer::Peer as _;

    use super::*;

    fn target(host: &str) -> Target {
        Target { host: host.parse().expect("valid"), port: 8888.try_into().expect("valid"), weight: 1 }
    }

    /// What tests connect by.
    pub(in crate::balance) const RULES: PeerRules = PeerRules {
        backend: Backend::Http,
        limits: TimeLimits { connect: Duration::from_secs(5), first_byte: None, idle: None },
    };

    #[tokio::test]
    async fn two_circuits_never_share_a_connection_to_one_target() {
        let hash = async |circuit| {
            let target = TargetPeer::new(CircuitId(uuid::Uuid::from_u128(circuit)), 0, target("10.0.0.1"), RULES);
            target.peer(target.address(0).await.expect("a literal")).reuse_hash()
        };
        assert_ne!(hash(1).await, hash(2).await);
        assert_eq!(hash(1).await, hash(1).await);
    }

    #[tokio::test]
    async fn an_http2_target_pauses_only_as_long_as_its_circuit_says() {
        let first_byte = Some(Duration::from_secs(1));
        for (backend, read_timeout) in [(Backend::Http, None), (Backend::H2, first_byte)] {
            let rules = PeerRules { backend, limits: TimeLimits { first_byte, ..RULES.limits } };
            let target = TargetPeer::new(CircuitId::random(), 0, target("10.0.0.1"), rules);
            let peer = target.peer(target.address(0).await.expect("a literal"));
            assert_eq!(peer.options.read_timeout, read_timeout, "{backend:?}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_when_its_turn_comes() {
        let target = TargetPeer::new(CircuitId::random(), 0, target("localhost"), RULES);
        assert_eq!(target.addresses(), 0);
        let address = target.address(0).await.expect("localhost has an address");
        assert!(address.ip().is_loopback());
        assert!(matches!(target.address(target.addresses()).await, Err(ResolveError::NoAddress)));
    }
}
