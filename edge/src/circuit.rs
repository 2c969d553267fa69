//! What one circuit needs at run time.
//!
//! Invariant: generations of one circuit id share one [`Lifetime`], so a change never touches an open connection.

mod answer;
mod connection;
mod edits;
mod lifetime;
mod limits;

use std::sync::Arc;

use entities::authority::{Authority, Scheme};
use entities::circuit::{Backend, Protocol, ProxyProtocol, Versioned};
use entities::frontend::Frontend;
use entities::ids::CircuitKey;
use http::HeaderValue;

use crate::access::Rules;
use crate::balance::{Balancer, Ground};
use crate::rate::{Bandwidth, RateLimiter};
use crate::table::Slot;

pub(crate) use answer::AnswerWait;
pub(crate) use connection::{Busy, Client, Connection, Entrance, Notice};
pub(crate) use edits::{Edits, HeaderEdits};
pub(crate) use lifetime::{Lifetime, NotOpened, OpenRequest};
pub use limits::TimeLimits;
pub(crate) use limits::unless_zero;

/// One generation of a circuit, ready to serve.
pub(crate) struct LiveCircuit {
    /// For logs.
    pub(crate) key: CircuitKey,
    /// Where it stands in the table.
    pub(crate) slot: Slot,
    /// Whether anybody may use it.
    pub(crate) is_public: bool,
    /// Who may use it, if not everybody from everywhere.
    pub(crate) access: Option<Box<Rules>>,
    /// What the service speaks.
    pub(crate) protocol: Protocol,
    /// Which driver carries it.
    pub(crate) backend: Backend,
    /// How long things may take.
    pub(crate) limits: TimeLimits,
    /// Header fields to set and to remove, if there are any.
    pub(crate) edits: Option<Box<HeaderEdits>>,
    /// Which header tells a TCP target who the client is.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// How many requests it takes; all if there is none.
    pub(crate) rate: Option<Arc<RateLimiter>>,
    /// How many bytes it carries; all if there is none.
    pub(crate) bandwidth: Option<Arc<Bandwidth>>,
    /// Which target gets the next request.
    pub(crate) balancer: Balancer,
    /// What outlives a generation.
    pub(crate) lifetime: Arc<Lifetime>,
    /// How clients reach it, for the target to know.
    pub(crate) way_in: WayIn,
}

/// How clients reach a circuit.
pub(crate) struct WayIn {
    /// The scheme that clients use.
    pub(crate) scheme: Scheme,
    /// The same as a field value.
    pub(crate) scheme_value: HeaderValue,
    /// The port that clients use.
    pub(crate) port_value: HeaderValue,
}

// === impl LiveCircuit ===

impl LiveCircuit {
    /// Makes `versioned` ready at an edge with these `limits`; `before` is the generation before, if there was one.
    pub(crate) fn new(
        versioned: Versioned,
        authority: &Authority,
        limits: TimeLimits,
        before: Option<&Self>,
        ground: &Arc<Ground>,
    ) -> Self {
        let circuit = versioned.circuit;
        let lifetime = before.map(|before| Arc::clone(&before.lifetime)).unwrap_or_default();
        let limits = limits.with(circuit.traffic.timeouts, circuit.backend);
        let way_in = WayIn::new(&circuit.frontend, authority);
        let rate = RateLimiter::of(circuit.traffic.rate_limit, before.and_then(|before| before.rate.as_ref()));
        let bandwidth = before.and_then(|before| before.bandwidth.as_ref());
        let bandwidth = Bandwidth::of(circuit.traffic.bandwidth, bandwidth);
        let before = before.map(|before| &before.balancer);
        Self {
            slot: Slot::of(&circuit.frontend),
            is_public: circuit.access.public,
            access: Rules::of(&circuit),
            balancer: Balancer::new(&circuit, limits, way_in.scheme, before, lifetime.turn(), Arc::clone(ground)),
            way_in,
            rate,
            bandwidth,
            protocol: circuit.protocol,
            backend: circuit.backend,
            limits,
            edits: HeaderEdits::of(&circuit.traffic.headers),
            proxy_protocol: circuit.traffic.proxy_protocol,
            key: circuit.key,
            lifetime,
        }
    }
}

// === impl WayIn ===

impl WayIn {
    fn new(frontend: &Frontend, authority: &Authority) -> Self {
        let (scheme, port) = match frontend {
            Frontend::Port { port } => {
                let scheme = authority.ports.as_ref().map(|ports| ports.public_scheme);
                (scheme.unwrap_or_default(), port.number())
            }
            Frontend::Subdomain { .. } => match &authority.subdomains {
                Some(domain) => (domain.public_scheme, domain.public_port.number()),
                None => (Scheme::default(), Scheme::default().default_port()),
            },
        };
        Self { scheme, scheme_value: HeaderValue::from_static(scheme.as_str()), port_value: HeaderValue::from(port) }
    }
}
