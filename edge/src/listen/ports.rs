//! Ports that are opened and closed while the edge runs.
//!
//! Invariant: a port is listed here exactly while its socket listens.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use entities::circuit::Backend;
use entities::ids::Port;
use entities::worker::RefusalCode;

use super::accept::AcceptLoop;
use super::door::{Door, PortKind};
use super::socket;
use crate::connection::{EntrancePort, Notice};
use crate::egress::OwnPorts;
use crate::sync;

/// The dynamic ports of the edge.
pub(crate) struct DynamicPorts {
    address: IpAddr,
    door: Arc<Door>,
    own: Arc<OwnPorts>,
    open: HashMap<Port, AcceptLoop>,
}

/// A port that listens, on its way to be closed.
pub(crate) struct ClosingPort {
    port: Port,
    accept: AcceptLoop,
    own: Arc<OwnPorts>,
}

// === impl DynamicPorts ===

impl DynamicPorts {
    /// No port yet; they will listen at `address` and lead through `door`.
    pub(super) fn new(address: IpAddr, door: Arc<Door>, own: Arc<OwnPorts>) -> Self {
        Self { address, door, own, open: HashMap::new() }
    }

    /// Closes all; what is in flight goes on.
    pub(crate) async fn close(self) {
        let closing = self.open.into_values().map(|accept| accept.close(Notice::EndWhenIdle));
        futures_util::future::join_all(closing).await;
    }

    fn accept_at(&self, address: SocketAddr, port: Port, backend: Backend) -> io::Result<AcceptLoop> {
        let listener = socket::listen(address)?;
        let entrance = self.door.entrance(EntrancePort::Circuit(port));
        AcceptLoop::start(listener, Arc::clone(&self.door), entrance, PortKind::of(backend))
    }
}

impl sync::Ports for DynamicPorts {
    type Open = ClosingPort;

    fn count(&self) -> usize {
        self.open.len()
    }

    fn open(&mut self, port: Port, backend: Backend) -> Result<(), RefusalCode> {
        let address = SocketAddr::new(self.address, port.number());
        // Before it listens: no circuit may lead to another one, not even for a moment.
        self.own.add(port);
        let accept = self.accept_at(address, port, backend).map_err(|error| {
            self.own.remove(port);
            tracing::warn!(%address, %error, "port does not bind");
            socket::refusal(&error)
        })?;
        tracing::debug!(%address, "port listens");
        self.open.insert(port, accept);
        Ok(())
    }

    fn take(&mut self, port: Port) -> Option<ClosingPort> {
        let accept = self.open.remove(&port)?;
        Some(ClosingPort { port, accept, own: Arc::clone(&self.own) })
    }
}

// === impl ClosingPort ===

impl sync::OpenPort for ClosingPort {
    async fn close(self) {
        self.accept.close(Notice::EndUnlessBusy).await;
        self.own.remove(self.port);
        tracing::debug!(port = %self.port, "port closed");
    }
}
