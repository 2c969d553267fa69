//! Where a client came in.
//!
//! Invariant: the scheme of a request is what its connection is, unless a trusted proxy says another one; configuration only
//! says how public addresses look.

use std::fmt;

use entities::authority::Scheme;
use entities::ids::Port;

/// The socket that accepted a connection, and whether what passes there is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entrance {
    /// Which socket.
    pub(crate) port: EntrancePort,
    /// Whether connections are secured (TLS) before anything else is read.
    pub(crate) is_secure: bool,
}

/// Which socket accepted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntrancePort {
    /// The traffic port: circuits by `Host`.
    Traffic,
    /// The port of one circuit.
    Circuit(Port),
}

// === impl Entrance ===

impl Entrance {
    /// The traffic port without TLS.
    #[cfg(test)]
    pub(crate) const TRAFFIC: Self = Self { port: EntrancePort::Traffic, is_secure: false };

    /// The scheme of what is asked here.
    pub(crate) fn scheme(self) -> Scheme {
        if self.is_secure { Scheme::Https } else { Scheme::Http }
    }
}

impl fmt::Display for Entrance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            EntrancePort::Traffic => formatter.write_str("traffic"),
            EntrancePort::Circuit(port) => fmt::Display::fmt(&port, formatter),
        }
    }
}
