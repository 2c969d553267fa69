//! Ports that are opened and closed while the edge runs.
//!
//! Invariant: a port is listed here exactly while its socket listens.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use entities::ids::Port;
use entities::worker::RefusalCode;

use super::accept::{AcceptLoop, ServingContext};
use super::connections::Connections;
use super::proxy::SharedProxy;
use super::socket;
use crate::circuit::{Entrance, Notice};

/// The dynamic ports of the edge.
pub(crate) struct DynamicPorts {
    address: IpAddr,
    proxy: SharedProxy,
    all: Arc<Connections>,
    context: ServingContext,
    open: HashMap<Port, OpenPort>,
}

/// A port that listens.
pub(crate) struct OpenPort {
    port: Port,
    accept: AcceptLoop,
}

// === impl DynamicPorts ===

impl DynamicPorts {
    /// No port yet; they will listen at `address`.
    pub(super) fn new(address: IpAddr, proxy: SharedProxy, all: Arc<Connections>, context: ServingContext) -> Self {
        Self { address, proxy, all, context, open: HashMap::new() }
    }

    /// How many listen.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Begins to listen on `port`.
    pub(crate) fn open(&mut self, port: Port) -> Result<(), RefusalCode> {
        let address = SocketAddr::new(self.address, port.number());
        let listener = socket::listen(address).map_err(|error| {
            tracing::warn!(%address, %error, "port does not bind");
            socket::refusal(&error)
        })?;
        tracing::debug!(%address, "port listens");
        let (proxy, all) = (Arc::clone(&self.proxy), Arc::clone(&self.all));
        let accept = AcceptLoop::start(listener, address, Entrance::Port(port), proxy, all, self.context.clone());
        self.open.insert(port, OpenPort { port, accept });
        Ok(())
    }

    /// Takes a port out to be closed.
    pub(crate) fn take(&mut self, port: Port) -> Option<OpenPort> {
        self.open.remove(&port)
    }

    /// Closes all; what is in flight goes on.
    pub(crate) async fn close(self) {
        let closing = self.open.into_values().map(|port| port.accept.close(Notice::EndWhenIdle));
        futures_util::future::join_all(closing).await;
    }
}

// === impl OpenPort ===

impl OpenPort {
    /// Stops listening because the circuit is gone: all that is not busy ends at once.
    pub(crate) async fn close(self) {
        self.accept.close(Notice::EndUnlessBusy).await;
        tracing::debug!(port = %self.port, "port closed");
    }
}
