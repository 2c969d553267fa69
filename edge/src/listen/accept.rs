//! One accept loop: pingora's listening service over a socket of ours.
//!
//! Pingora's own bind retries for half a minute and then panics, so it is handed a socket that listens already.
//!
//! Invariant: all ports share one `HttpProxy` (each would cost 1.8 MiB), and a connection's future is dropped as
//! soon as the connection must end.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::Stream;
use pingora_core::server::{Fds, ShutdownWatch};
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::arrival::Gate;
use super::clients::{Clients, Place};
use super::connections::{Connections, next_number};
use super::http2::{self, FirstBytes};
use super::proxy::{CONNECTION, SharedProxy};
use super::stalled::Watched;
use super::{http1, refuse, tunnels};
use crate::circuit::{Connection, Entrance, Notice};
use crate::client::Peers;
use crate::config::ClientLimits;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::refusals::{Refusal, Refusals};
use crate::reply::Problem;
use crate::request_id::RequestId;

/// Bytes buffered on the way to a client before they go out, a TCP segment.
const WRITE_BUFFER_BYTES: usize = 1460;

/// How long a connection that is turned away for want of memory may take for the request that is answered so.
const SHED_TIME: Duration = Duration::from_secs(1);

/// Clients that are told at a time that they have too many connections. Each costs a descriptor for three seconds.
pub(super) const MAX_ANSWERING: usize = 256;

/// A socket that accepts for the HTTP proxy. Dropping it stops accepting as well, without waiting.
pub(super) struct AcceptLoop {
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
    connections: Arc<Connections>,
}

/// What all connections of the edge are served with.
#[derive(Clone)]
pub(super) struct ServingContext {
    pub(super) client: ClientLimits,
    pub(super) peers: Arc<Peers>,
    pub(super) memory: Arc<Memory>,
    pub(super) clients: Arc<Clients>,
    /// Who is told at a time that there is no place.
    pub(super) answering: Arc<Semaphore>,
    /// Places for answers that nobody takes.
    pub(super) stalled: Arc<Semaphore>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) metrics: Arc<Metrics>,
}

/// What pingora calls for each connection of one port.
struct PortApp {
    entrance: Entrance,
    proxy: SharedProxy,
    /// The connections of this port.
    own: Arc<Connections>,
    /// The connections of the edge.
    all: Arc<Connections>,
    context: ServingContext,
}

// === impl AcceptLoop ===

impl AcceptLoop {
    /// Begins to accept on `listener`, which does not block and is bound to `address`.
    pub(super) fn start(
        listener: TcpListener,
        address: SocketAddr,
        entrance: Entrance,
        proxy: SharedProxy,
        all: Arc<Connections>,
        context: ServingContext,
    ) -> Self {
        let connections = Arc::new(Connections::of_one_port());
        let app = PortApp { entrance, proxy, own: Arc::clone(&connections), all, context };
        let name = address.to_string();
        // Pingora finds a socket by the text of its address and takes the descriptor over.
        let mut sockets = Fds::new();
        sockets.add(name.clone(), listener.into_raw_fd());
        let buffers = L4BufferSettings::new(0, WRITE_BUFFER_BYTES);
        let mut service = Service::new(name.clone(), app);
        service.add_listener(ListenerConfig::tcp(name).l4_buffer(buffers));
        let (stop, stopped) = watch::channel(false);
        let ended = tokio::spawn(async move {
            service.start_service(Some(Arc::new(Mutex::new(sockets))), stopped, 1).await;
        });
        Self { stop, ended, connections }
    }

    /// Stops accepting and tells the port's connections. When this returns the socket is closed; connections that
    /// are busy go on.
    pub(super) async fn close(self, notice: Notice) {
        self.stop.send_replace(true);
        self.connections.notify(notice);
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "an accept loop failed");
        }
    }
}

// === impl PortApp ===

impl PortApp {
    /// Tells a client that it has too many connections.
    async fn turn_away(&self, stream: Stream, connection: &Connection) {
        let entrance = match self.entrance {
            Entrance::Traffic => "traffic".to_owned(),
            Entrance::Port(port) => port.to_string(),
        };
        let id = RequestId::next();
        let ip = connection.client.ip;
        self.context.refusals.note_request(Refusal::ClientConnections, ip, None, &id, entrance);
        // Whoever has opened too many may open many more: most of those hear nothing.
        let Ok(_permit) = self.context.answering.try_acquire() else { return };
        if !self.proxy.has_http2(self.entrance) {
            return refuse::answer(stream, Problem::ClientConnections, &[], &id, &self.context).await;
        }
        match http2::first_bytes(stream).await {
            Some(FirstBytes::Http2(stream)) => http2::turn_away(stream).await,
            Some(FirstBytes::Other(stream)) => {
                refuse::answer(stream, Problem::ClientConnections, &[], &id, &self.context).await;
            }
            None => {}
        }
    }
}

#[async_trait]
impl ServerApp for PortApp {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let peer = *stream.get_socket_digest()?.peer_addr()?.as_inet()?;
        let gate = Gate {
            entrance: self.entrance,
            sets: [&self.own, &self.all],
            peers: &self.context.peers,
            refusals: &self.context.refusals,
        };
        let arrival = gate.arrive(&mut stream, peer).await?;
        let mut connection = Connection::new(next_number(), self.entrance, arrival.client);
        connection.is_shed = self.context.memory.is_shedding();
        let connection = Arc::new(connection);
        let place = if connection.client.is_trusted_proxy {
            // It speaks for many.
            Place::uncounted()
        } else if let Some(place) = self.context.clients.enter(connection.client.ip) {
            place
        } else {
            // Boxed: what few connections do must not make the future of every one larger.
            Box::pin(self.turn_away(stream, &connection)).await;
            return None;
        };
        let own = self.own.enter(&connection);
        let all = self.all.enter(&connection);
        let hurried;
        let context = if connection.is_shed {
            // One request, to be told so or to ask the worker API.
            connection.notify(Notice::EndWhenIdle);
            let client = ClientLimits { idle: SHED_TIME, head: SHED_TIME, ..self.context.client };
            hurried = ServingContext { client, ..self.context.clone() };
            &hurried
        } else {
            &self.context
        };
        let stream = if self.proxy.has_http2(self.entrance) {
            match connection.unless_ended(http2::first_bytes(stream)).await?? {
                FirstBytes::Http2(stream) => {
                    http2::serve(stream, &connection, &self.proxy, context, shutdown).await;
                    return None;
                }
                FirstBytes::Other(stream) => stream,
            }
        } else {
            stream
        };
        let (places, refusals) = (Arc::clone(&self.context.stalled), Arc::clone(&self.context.refusals));
        let stream = Box::new(Watched::new(stream, places, connection.client.ip, refusals));
        let serving = http1::serve(stream, &connection, &self.proxy, context, shutdown);
        let serving = CONNECTION.scope(Arc::clone(&connection), serving);
        if let Some(upgraded) = connection.unless_ended(serving).await.flatten() {
            tunnels::start(upgraded, (own, all, place), &self.context.metrics);
        }
        None
    }
}
