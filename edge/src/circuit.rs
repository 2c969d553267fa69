//! What one circuit needs at run time.
//!
//! Invariant: generations of one circuit id share one [`Lifetime`], so a change never touches an open connection.

mod edits;
mod lifetime;

use std::net::IpAddr;
use std::sync::Arc;

use entities::authority::{Authority, Scheme};
use entities::circuit::{Backend, Protocol, ProxyProtocol, Versioned};
use entities::frontend::Frontend;
use entities::ids::CircuitKey;
use http::HeaderValue;

use crate::access::Rules;
use crate::balance::{Balancer, TargetContext};
use crate::connection::Busy;
use crate::limits::TimeLimits;
use crate::rate::{Bandwidth, RateLimiter};
use crate::refusal::Refused;
use crate::reply::Problem;
use crate::slot::Slot;

pub(crate) use edits::{Edits, HeaderEdits};
use lifetime::NotOpened;
pub(crate) use lifetime::{Lifetime, OpenRequest};

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
    /// The port that clients use, for the target to know.
    pub(crate) public_port: HeaderValue,
}

// === impl LiveCircuit ===

impl LiveCircuit {
    /// Makes `versioned` ready at an edge with these `limits`; `before` is the generation before, if there was one.
    pub(crate) fn new(
        versioned: Versioned,
        authority: &Authority,
        limits: TimeLimits,
        before: Option<&Self>,
        ground: &Arc<TargetContext>,
    ) -> Self {
        let circuit = versioned.circuit;
        let lifetime = before.map(|before| Arc::clone(&before.lifetime)).unwrap_or_default();
        let limits = limits.with(circuit.traffic.timeouts, circuit.backend);
        let rate = RateLimiter::of(circuit.traffic.rate_limit, before.and_then(|before| before.rate.as_ref()));
        let bandwidth = before.and_then(|before| before.bandwidth.as_ref());
        let bandwidth = Bandwidth::of(circuit.traffic.bandwidth, bandwidth);
        let before = before.map(|before| &before.balancer);
        Self {
            slot: Slot::of(&circuit.frontend),
            is_public: circuit.access.public,
            access: Rules::of(&circuit),
            balancer: Balancer::new(&circuit, limits, before, lifetime.turn(), Arc::clone(ground)),
            public_port: public_port(&circuit.frontend, authority),
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

    /// Opens a request, or a stream, of the client at `ip`, of which at most `most` may be open; 0 is no cap.
    pub(crate) fn open(&self, busy: &Busy, ip: IpAddr, most: usize) -> Result<OpenRequest, Refused> {
        let opened = self.lifetime.open(&busy.connection, busy.request, most);
        let open = opened.map_err(|not_opened| match not_opened {
            // It ended between the look-up and now.
            NotOpened::Ended => Refused::plainly(Problem::UnknownAddress),
            NotOpened::Full => Refused::new(Problem::CircuitConnections, most.to_string()),
        })?;
        // Last, so that nobody uses up the rate of a circuit who may not use it.
        let taken = self.rate.as_ref().map_or(Ok(()), |limiter| limiter.take(ip));
        taken.map_err(|wait| {
            Refused::new(Problem::TooManyRequests { retry_after_s: wait.seconds() }, wait.to_string())
        })?;
        Ok(open)
    }
}

/// The port that clients of a circuit connect to: behind NAT it is not the one that listens.
fn public_port(frontend: &Frontend, authority: &Authority) -> HeaderValue {
    let port = match frontend {
        Frontend::Port { port } => port.number(),
        Frontend::Subdomain { .. } => {
            let domain = authority.subdomains.as_ref().map(|domain| domain.public_port.number());
            domain.unwrap_or(Scheme::default().default_port())
        }
    };
    HeaderValue::from(port)
}
