//! What `sync` needs of the ports of circuits.
//!
//! Invariant: nothing but `sync` opens and closes them.

use entities::circuit::Backend;
use entities::ids::Port;
use entities::worker::RefusalCode;

/// Ports that are opened and closed while the edge runs.
pub(crate) trait Ports: Send + 'static {
    /// A port that listens.
    type Open: OpenPort;

    /// How many listen.
    fn count(&self) -> usize;

    /// Begins to listen on `port` for a circuit with this backend.
    fn open(&mut self, port: Port, backend: Backend) -> Result<(), RefusalCode>;

    /// Takes a port out to be closed.
    fn take(&mut self, port: Port) -> Option<Self::Open>;
}

/// A port that listens.
pub(crate) trait OpenPort: Send {
    /// Stops listening because the circuit is gone; all that is not busy ends at once.
    fn close(self) -> impl Future<Output = ()> + Send;
}
