//! Accepts byte streams on the port of one circuit.
//!
//! Invariant: the loop lives on whatever goes wrong with one connection, and when the system has no descriptor left it
//! waits instead of spinning.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use entities::ids::Port;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clients::Clients;
use super::connections::{Connections, next_number};
use crate::circuit::{Busy, Client, Connection, Entrance, Notice};
use crate::descriptors;
use crate::refusals::Refusal;
use crate::tcp::{Streams, reset, serve};

/// How long to wait when there is no descriptor for a connection that waits to be accepted.
const OUT_OF_DESCRIPTORS_WAIT: Duration = Duration::from_millis(200);

/// A socket that accepts byte streams. Dropping it stops accepting as well, without waiting.
pub(super) struct StreamLoop {
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
    connections: Arc<Connections>,
}

/// What the loop has.
struct Acceptor {
    listener: TcpListener,
    port: Port,
    streams: Arc<Streams>,
    clients: Arc<Clients>,
    /// The connections of this port.
    own: Arc<Connections>,
    /// The connections of the edge.
    all: Arc<Connections>,
}

// === impl StreamLoop ===

impl StreamLoop {
    /// Begins to accept on `listener`, which does not block.
    pub(super) fn start(
        listener: std::net::TcpListener,
        port: Port,
        streams: Arc<Streams>,
        clients: Arc<Clients>,
        all: Arc<Connections>,
    ) -> io::Result<Self> {
        let connections = Arc::new(Connections::of_one_port());
        let listener = TcpListener::from_std(listener)?;
        let acceptor = Acceptor { listener, port, streams, clients, own: Arc::clone(&connections), all };
        let (stop, stopped) = watch::channel(false);
        Ok(Self { stop, ended: tokio::spawn(acceptor.run(stopped)), connections })
    }

    /// Stops accepting and tells the port's connections. When this returns the socket is closed; relays go on.
    pub(super) async fn close(self, notice: Notice) {
        self.stop.send_replace(true);
        self.connections.notify(notice);
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "an accept loop failed");
        }
    }
}

// === impl Acceptor ===

impl Acceptor {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // An error means that whoever could stop the loop has gone.
                _ = stopped.wait_for(|must_stop| *must_stop) => return,
            };
            match accepted {
                Ok((client, address)) => self.take_in(client, address),
                Err(error) if descriptors::are_used_up(&error) => {
                    tracing::error!(port = %self.port, %error, fault = "edge", "a connection has to wait");
                    tokio::select! {
                        () = tokio::time::sleep(OUT_OF_DESCRIPTORS_WAIT) => {}
                        _ = stopped.wait_for(|must_stop| *must_stop) => return,
                    }
                }
                // The client went before it was accepted.
                Err(error) => tracing::debug!(port = %self.port, %error, fault = "client", "nobody was accepted"),
            }
        }
    }

    fn take_in(&self, client: TcpStream, address: SocketAddr) {
        let connection = Connection::new(next_number(), Entrance::Port(self.port), Client::new(address.ip()));
        let connection = Arc::new(connection);
        let ip = connection.client.ip;
        let Some(place) = self.clients.enter(ip) else {
            self.streams.refusals.note(Refusal::ClientConnections, ip, None, self.port);
            return reset(&client);
        };
        let members = (self.own.enter(&connection), self.all.enter(&connection), place);
        let (streams, port) = (Arc::clone(&self.streams), self.port);
        tokio::spawn(async move {
            let _members = members;
            // A byte stream has no pauses between requests in which it could end.
            let busy = Busy::begin(connection);
            if busy.connection.unless_ended(serve(&streams, port, client, &busy)).await.is_none() {
                streams.metrics.count_relay(None);
            }
        });
    }
}
