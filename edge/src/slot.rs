//! What a circuit holds at the edge: a host of the traffic port, or a port of its own.
//!
//! Invariant: a slot belongs to at most one circuit.

use entities::frontend::Frontend;
use entities::host::HostName;
use entities::ids::Port;

/// A place in the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    /// A host on the traffic port.
    Host(HostName),
    /// A port of its own.
    Port(Port),
}

// === impl Slot ===

impl Slot {
    /// The slot that a frontend takes.
    pub(crate) fn of(frontend: &Frontend) -> Self {
        match frontend {
            Frontend::Port { port } => Self::Port(*port),
            Frontend::Subdomain { host, .. } => Self::Host(host.clone()),
        }
    }
}
