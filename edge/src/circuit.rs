//! What one circuit needs at run time.
//!
//! Invariant: generations of one circuit id share one [`Lifetime`], so a change never touches an open connection.

mod connection;
mod lifetime;

use std::sync::Arc;
use std::time::Duration;

use entities::authority::{Authority, Scheme};
use entities::circuit::Versioned;
use entities::frontend::Frontend;
use entities::ids::CircuitKey;
use http::HeaderValue;

use crate::balance::Balancer;
use crate::table::Slot;

pub(crate) use connection::{Client, Connection, Entrance, Notice};
pub(crate) use lifetime::{Lifetime, OpenRequest};

/// One generation of a circuit, ready to serve.
pub(crate) struct LiveCircuit {
    /// For logs.
    pub(crate) key: CircuitKey,
    /// Where it stands in the table.
    pub(crate) slot: Slot,
    /// Whether anybody may use it.
    pub(crate) is_public: bool,
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
    /// Makes `versioned` ready; `lifetime` is the one of the generation before, if there was one.
    pub(crate) fn new(
        versioned: Versioned,
        authority: &Authority,
        connect_timeout: Duration,
        lifetime: Option<Arc<Lifetime>>,
    ) -> Self {
        let circuit = versioned.circuit;
        let lifetime = lifetime.unwrap_or_default();
        Self {
            slot: Slot::of(&circuit.frontend),
            is_public: circuit.access.public,
            balancer: Balancer::new(circuit.id, circuit.targets, connect_timeout, lifetime.turn()),
            way_in: WayIn::new(&circuit.frontend, authority),
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
