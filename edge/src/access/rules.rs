//! The access rules of one circuit, as the edge needs them.
//!
//! Invariant: an open circuit for everybody has none, so that it costs a null pointer.

use std::net::IpAddr;

use entities::access::Origin;
use entities::circuit::Circuit;
use entities::ids::{CircuitId, Generation};
use entities::range::AddressRange;

use super::Denial;

/// Who may use one circuit.
#[derive(Debug)]
pub struct Rules {
    /// Which circuit.
    pub(super) id: CircuitId,
    /// Which generation of the circuit wrote them.
    pub(super) generation: Generation,
    pub(super) is_public: bool,
    allowed_clients: Box<[AddressRange]>,
    pub(super) allowed_origins: Box<[Origin]>,
    pub(super) allow_preflight: bool,
    /// Whether the target gets the bearer token that opened the circuit.
    pub(crate) forward_token: bool,
    pub(super) login_url: Option<Box<str>>,
}

// === impl Rules ===

impl Rules {
    /// The rules of `circuit`, if there are any.
    #[must_use]
    pub fn of(circuit: &Circuit) -> Option<Box<Self>> {
        let access = &circuit.access;
        if access.public && access.allowed_clients.is_empty() {
            return None;
        }
        Some(Box::new(Self {
            id: circuit.id,
            generation: circuit.access_generation,
            is_public: access.public,
            allowed_clients: access.allowed_clients.as_slice().into(),
            allowed_origins: access.allowed_origins.as_slice().into(),
            allow_preflight: access.allow_preflight,
            forward_token: access.forward_token,
            login_url: access.login_url.as_deref().map(Into::into),
        }))
    }

    /// Lets a client at `ip`, `None` if nobody knows where it is, show what it has.
    pub(crate) fn admit(&self, ip: Option<IpAddr>) -> Result<(), Denial> {
        if self.allows_client(ip) { Ok(()) } else { Err(Denial::Client) }
    }

    fn allows_client(&self, ip: Option<IpAddr>) -> bool {
        let is_in = |ip| AddressRange::any_contains(&self.allowed_clients, ip);
        self.allowed_clients.is_empty() || ip.is_some_and(is_in)
    }

    /// Whether a byte stream from `ip` may be relayed. A private one without ranges is nobody's: the API refuses it, and
    /// whoever wrote it into the registry meant that.
    pub(crate) fn allows_stream(&self, ip: IpAddr) -> bool {
        (self.is_public || !self.allowed_clients.is_empty()) && self.allows_client(Some(ip))
    }
}
