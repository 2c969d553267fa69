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

use super::accept::{AcceptLoop, ServingContext};
use super::connections::Connections;
use super::proxy::SharedProxy;
use super::socket;
use super::streams::StreamLoop;
use crate::circuit::{Entrance, Notice};
use crate::tcp::Streams;

/// The dynamic ports of the edge.
pub(crate) struct DynamicPorts {
    address: IpAddr,
    served_by: ServedBy,
    all: Arc<Connections>,
    open: HashMap<Port, OpenPort>,
}

/// What ports are served with.
pub(super) struct ServedBy {
    pub(super) proxy: SharedProxy,
    pub(super) context: ServingContext,
    pub(super) streams: Arc<Streams>,
}

/// A port that listens.
pub(crate) struct OpenPort {
    port: Port,
    accept: Accept,
}

/// What accepts at a port; it is chosen when the port is opened, because a circuit keeps its backend.
enum Accept {
    Http(AcceptLoop),
    Stream(StreamLoop),
}

// === impl DynamicPorts ===

impl DynamicPorts {
    /// No port yet; they will listen at `address`.
    pub(super) fn new(address: IpAddr, served_by: ServedBy, all: Arc<Connections>) -> Self {
        Self { address, served_by, all, open: HashMap::new() }
    }

    /// How many listen.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Begins to listen on `port` for a circuit with this backend.
    pub(crate) fn open(&mut self, port: Port, backend: Backend) -> Result<(), RefusalCode> {
        let address = SocketAddr::new(self.address, port.number());
        let accept = self.accept_at(address, port, backend).map_err(|error| {
            tracing::warn!(%address, %error, "port does not bind");
            socket::refusal(&error)
        })?;
        tracing::debug!(%address, "port listens");
        self.open.insert(port, OpenPort { port, accept });
        Ok(())
    }

    fn accept_at(&self, address: SocketAddr, port: Port, backend: Backend) -> io::Result<Accept> {
        let listener = socket::listen(address)?;
        let ServedBy { proxy, context, streams } = &self.served_by;
        let all = Arc::clone(&self.all);
        match backend {
            Backend::Http | Backend::H2 => {
                let (entrance, proxy) = (Entrance::Port(port), Arc::clone(proxy));
                Ok(Accept::Http(AcceptLoop::start(listener, address, entrance, proxy, all, context.clone())))
            }
            Backend::Tcp => Ok(Accept::Stream(StreamLoop::start(
                listener,
                port,
                Arc::clone(streams),
                Arc::clone(&context.clients),
                all,
            )?)),
        }
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

// === impl Accept ===

impl Accept {
    async fn close(self, notice: Notice) {
        match self {
            Self::Http(accept) => accept.close(notice).await,
            Self::Stream(accept) => accept.close(notice).await,
        }
    }
}
