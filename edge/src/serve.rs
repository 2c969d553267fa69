//! Serves a client's connection in the protocol that it speaks, from when the door has let it in to its end.
//!
//! Invariant: whatever is served is a member of the sets of its port and of the edge for as long, and holds its place under
//! the caps.

mod bytes;
mod http1;
mod http2;
mod refuse;
mod rewound;
mod stall_guard;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::server::ShutdownWatch;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::client::Ends;
use crate::config::ClientLimits;
use crate::connection::{ClientStream, Connection};
use crate::decide::Decider;
use crate::exchange::{Engine, Pool};
use crate::proxy::{EdgeProxy, SharedProxy};
use crate::record::Spoken;
use crate::refusal::Refused;
use crate::shared::Shared;
use crate::tcp::OpenRelay;
use crate::tunnel;

/// How long a connection that is turned away for want of memory may take for the request that is answered so.
const SHED_TIME: Duration = Duration::from_secs(1);

/// Clients that are told at a time that they have too many connections. Each costs a descriptor for three seconds.
const MAX_ANSWERING: usize = 256;

/// What all connections of the edge are served with.
pub(crate) struct Server {
    /// What everything that serves clients shares.
    pub(crate) shared: Arc<Shared>,
    proxy: SharedProxy,
    /// Carries plain requests of HTTP/1, unless pingora does.
    engine: Option<Engine>,
    /// Who is told at a time that there is no place.
    answering: Semaphore,
    /// Places for answers that nobody takes.
    stalled: Arc<Semaphore>,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes that nobody looks into.
    Bytes,
}

/// A connection that the door has let in, or that is to be told why not.
pub(crate) struct Admitted<M> {
    /// What everybody else sees of it.
    pub(crate) connection: Arc<Connection>,
    /// Its bytes.
    pub(crate) stream: ClientStream,
    /// What was read of them to find out the protocol.
    pub(crate) first_bytes: Vec<u8>,
    /// Its ends, if a proxy in front of the edge told them.
    pub(crate) ends: Option<Ends>,
    /// Its memberships and its place under the caps, kept to its end.
    pub(crate) memberships: M,
    /// Whether its port is being closed.
    pub(crate) is_closing: ShutdownWatch,
}

// === impl Server ===

impl Server {
    /// Serves what `decider` lets in; plain requests of HTTP/1 over these idle connections, or by pingora.
    pub(crate) fn new(decider: Arc<Decider>, pool: Option<Arc<Pool>>) -> Self {
        let shared = Arc::clone(&decider.shared);
        let stalled = Arc::new(Semaphore::new(shared.limits.max_stalled));
        let engine = pool.map(|pool| Engine { decider: Arc::clone(&decider), pool, stalled: Arc::clone(&stalled) });
        let proxy = EdgeProxy::shared(decider);
        Self { shared, proxy, engine, answering: Semaphore::new(MAX_ANSWERING), stalled }
    }

    /// Serves a connection to its end; a relay goes on in a task of its own.
    pub(crate) async fn serve<M: Send + Unpin + 'static>(&self, protocol: Protocol, admitted: Admitted<M>) {
        // Boxed: none may take the memory of the largest.
        match protocol {
            Protocol::Http1 => Box::pin(self.serve_http1(admitted)).await,
            Protocol::Http2 => Box::pin(http2::serve(self, admitted)).await,
            Protocol::Bytes => Box::pin(self.serve_bytes(admitted)).await,
        }
    }

    async fn serve_http1<M: Send + Unpin + 'static>(&self, admitted: Admitted<M>) {
        let Admitted { connection, stream, first_bytes, memberships, is_closing, .. } = admitted;
        let serving = http1::serve(self, &connection, stream, first_bytes, &is_closing);
        if let Some(upgraded) = connection.unless_ended(serving).await.flatten() {
            let http1::Upgraded { client, to_target, switched } = upgraded;
            let relay = tunnel::relay(client, to_target, switched, Arc::clone(&self.shared.relays));
            go_on(relay, memberships);
        }
    }

    async fn serve_bytes<M: Send + Unpin + 'static>(&self, admitted: Admitted<M>) {
        let Admitted { connection, stream, ends, memberships, .. } = admitted;
        if let Some(relay) = bytes::open(&self.shared, connection, stream, ends).await {
            go_on(relay, memberships);
        }
    }

    /// Turns a client away, in the protocol that it speaks. Whoever has opened too many connections may open many more: most
    /// of those hear nothing.
    pub(crate) async fn turn_away(
        &self,
        protocol: Protocol,
        stream: ClientStream,
        connection: &Arc<Connection>,
        refused: Refused,
    ) {
        match protocol {
            Protocol::Bytes => {
                stream.reset();
                self.shared.records.turn_away(connection, Spoken::Bytes, refused);
            }
            Protocol::Http1 => refuse::answer(stream, connection, &self.shared.records, &[], refused).await,
            Protocol::Http2 => http2::turn_away(self, stream, connection, refused).await,
        }
    }

    /// A place among those who are told that they are turned away, if there is one left.
    pub(crate) fn may_answer(&self) -> Option<SemaphorePermit<'_>> {
        self.answering.try_acquire().ok()
    }

    /// What the client of this connection may take.
    fn limits(&self, connection: &Connection) -> ClientLimits {
        let limits = self.shared.limits;
        if connection.is_shed() {
            // One request, to be told so or to ask the worker API.
            ClientLimits { idle: SHED_TIME, head: SHED_TIME, ..limits }
        } else {
            limits
        }
    }
}

/// Lets a relay go on in a task of its own: what led to it took more memory.
fn go_on<M: Send + Unpin + 'static>(relay: OpenRelay<ClientStream, TcpStream>, memberships: M) {
    tokio::spawn(Going { relay, _memberships: memberships });
}

/// A relay that goes on, a member to its end.
struct Going<M> {
    relay: OpenRelay<ClientStream, TcpStream>,
    _memberships: M,
}

// === impl Going ===

impl<M: Unpin> Future for Going<M> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.get_mut().relay).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What leads to a relay goes when it begins, and it is kept once.
    #[test]
    fn a_relay_that_goes_on_is_small() {
        assert!(size_of::<Going<[u64; 5]>>() <= 512, "{}", size_of::<Going<[u64; 5]>>());
    }
}
