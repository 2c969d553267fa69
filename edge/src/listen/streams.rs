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

use super::arrival::{Arrival, Gate};
use super::clients::{Clients, Place};
use super::connections::{Connections, next_number};
use crate::circuit::{Busy, Connection, Entrance, Notice};
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

    fn take_in(&self, client: TcpStream, peer: SocketAddr) {
        if self.streams.memory.is_shedding() {
            self.streams.refusals.note(Refusal::Memory, peer.ip(), None, "no memory for another byte stream");
            return reset(&client);
        }
        let (port, streams) = (self.port, Arc::clone(&self.streams));
        let sets = [Arc::clone(&self.own), Arc::clone(&self.all)];
        let clients = Arc::clone(&self.clients);
        if streams.peers.must_introduce(peer.ip()) {
            tokio::spawn(async move {
                let mut client = client;
                let gate = Gate {
                    entrance: Entrance::Port(port),
                    sets: [&sets[0], &sets[1]],
                    peers: &streams.peers,
                    refusals: &streams.refusals,
                };
                if let Some(arrival) = gate.arrive(&mut client, peer).await {
                    relay(streams, port, sets, &clients, client, arrival).await;
                }
            });
        } else {
            let arrival = Arrival::of(streams.peers.client(peer.ip()));
            // In the sets before the next one is accepted.
            tokio::spawn(relay(streams, port, sets, &clients, client, arrival));
        }
    }
}

/// Carries one connection; it is a member of `sets` from now on, not only once the answer is polled.
fn relay(
    streams: Arc<Streams>,
    port: Port,
    sets: [Arc<Connections>; 2],
    clients: &Arc<Clients>,
    client: TcpStream,
    arrival: Arrival,
) -> impl Future<Output = ()> + use<> {
    let connection = Arc::new(Connection::new(next_number(), Entrance::Port(port), arrival.client));
    let (ip, is_proxy) = (connection.client.ip, connection.client.is_trusted_proxy);
    let place = if is_proxy { Some(Place::uncounted()) } else { clients.enter(ip) };
    let membership = place.map(|place| (place, sets.map(|set| set.enter(&connection))));
    async move {
        let Some(_membership) = membership else {
            streams.refusals.note(Refusal::ClientConnections, ip, None, port);
            return reset(&client);
        };
        // A byte stream has no pauses between requests in which it could end.
        let busy = Busy::begin(connection);
        if busy.connection.unless_ended(serve(&streams, port, client, arrival.ends, &busy)).await.is_none() {
            streams.metrics.count_relay(None);
        }
    }
}
