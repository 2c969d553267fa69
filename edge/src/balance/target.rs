//! One target as pingora connects to it.
//!
//! Invariant: two circuits never share a connection to a target, even to one address: the group key of the
//! connection pool is made of the circuit's id and the target.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use entities::circuit::Backend;
use entities::ids::CircuitId;
use entities::target::Target;
use pingora::upstreams::peer::HttpPeer;

use super::member::TargetStats;
use crate::address::{AddressError, Resolution};
use crate::egress::Egress;
use crate::health::Watch;
use crate::limits::TimeLimits;

/// How long an idle connection to a target waits for the next request.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Requests under way on one HTTP/2 connection to a target; more take another connection. Servers of gRPC allow 100
/// or more, and what they allow counts if it is less.
const MAX_STREAMS: usize = 100;

/// How often an HTTP/2 target must show that it is there. Servers of gRPC cut a client that asks more than every five
/// minutes; this is a tenth more.
const PING_INTERVAL: Duration = Duration::from_secs(330);

/// A target, with all that can be prepared before a request comes.
pub(crate) struct TargetPeer {
    /// Its place in the circuit's list.
    pub(super) index: usize,
    /// What the circuit says.
    target: Arc<Target>,
    rules: PeerRules,
    /// Tells this target of this circuit from all others.
    identity: u64,
    resolution: Resolution,
    /// How pingora connects to an IP literal: always in the same way.
    literal: Option<Box<HttpPeer>>,
    pub(super) stats: Arc<TargetStats>,
    /// Begun when there is a check or a choice, else with the first failure.
    pub(super) watch: OnceLock<Arc<Watch>>,
}

/// How to connect to the targets of a circuit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerRules {
    /// What they speak.
    pub(crate) backend: Backend,
    /// How long things may take.
    pub(crate) limits: TimeLimits,
}

// === impl TargetPeer ===

impl TargetPeer {
    pub(super) fn new(circuit: CircuitId, index: usize, target: Target, rules: PeerRules) -> Self {
        let mut hasher = DefaultHasher::new();
        (circuit, &target.host, target.port).hash(&mut hasher);
        let identity = hasher.finish();
        let resolution = Resolution::of(&target.host, target.port);
        let literal = match &resolution {
            Resolution::Literal(address) => Some(Box::new(peer(*address, identity, &rules))),
            Resolution::Name(_) => None,
        };
        Self {
            index,
            target: Arc::new(target),
            rules,
            identity,
            resolution,
            literal,
            stats: Arc::default(),
            watch: OnceLock::new(),
        }
    }

    /// Its place in the circuit's list.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// What the circuit says.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Tells this target of this circuit from all others, across generations.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// How many addresses it is known to have.
    pub(crate) fn addresses(&self) -> usize {
        self.resolution.count()
    }

    /// The address with this number, counted from 0; a request that failed at one tries the next.
    pub(crate) async fn address(&self, number: usize, egress: &Egress) -> Result<SocketAddr, AddressError> {
        let Target { host, port, .. } = &*self.target;
        self.resolution.get(host, *port, number, self.rules.limits.connect, egress).await
    }

    /// How pingora connects to one of its addresses.
    pub(crate) fn peer(&self, address: SocketAddr) -> Box<HttpPeer> {
        match &self.literal {
            Some(peer) => peer.clone(),
            None => Box::new(peer(address, self.identity, &self.rules)),
        }
    }

    /// Whether requests should go there, as far as is known.
    pub(super) fn is_usable(&self) -> bool {
        self.watch.get().is_none_or(|watch| watch.is_usable())
    }

    /// It has answered, or taken a connection that it need not answer.
    pub(super) fn succeeded(&self) {
        self.stats.note_answer();
        if let Some(watch) = self.watch.get() {
            watch.succeeded();
        }
    }
}

fn peer(address: SocketAddr, identity: u64, rules: &PeerRules) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = identity;
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
    use pingora::upstreams::peer::Peer as _;

    use super::*;

    fn target(host: &str) -> Target {
        Target { host: host.parse().expect("valid"), port: 8888.try_into().expect("valid"), weight: 1 }
    }

    /// What tests connect by.
    pub(in crate::balance) const RULES: PeerRules = PeerRules {
        backend: Backend::Http,
        limits: TimeLimits { connect: Duration::from_secs(5), first_byte: None, idle: None, drain: Duration::ZERO },
    };

    fn egress() -> Egress {
        Egress::default()
    }

    #[tokio::test]
    async fn two_circuits_never_share_a_connection_to_one_target() {
        let hash = async |circuit| {
            let target = TargetPeer::new(CircuitId(uuid::Uuid::from_u128(circuit)), 0, target("10.0.0.1"), RULES);
            target.peer(target.address(0, &egress()).await.expect("a literal")).reuse_hash()
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
            let peer = target.peer(target.address(0, &egress()).await.expect("a literal"));
            assert_eq!(peer.options.read_timeout, read_timeout, "{backend:?}");
        }
    }
}
