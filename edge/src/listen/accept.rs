//! One accept loop for every kind of port.
//!
//! Invariant: the loop lives on whatever goes wrong with one connection, and when the system has no descriptor left it
//! waits instead of spinning. A connection is in the sets of its port and of the edge before the next one is accepted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connections::Connections;
use super::door::{Accepted, Door, PortKind};
use crate::connection::{Entrance, Notice};
use crate::descriptors;
use crate::refusal::Fault;
use crate::words::Words as _;

/// How long to wait when there is no descriptor for a connection that waits to be accepted.
const OUT_OF_DESCRIPTORS_WAIT: Duration = Duration::from_millis(200);

/// A socket that accepts. Dropping it stops accepting as well, without waiting.
pub(super) struct AcceptLoop {
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
    connections: Arc<Connections>,
}

/// What the loop has.
struct Acceptor {
    listener: TcpListener,
    door: Arc<Door>,
    entrance: Entrance,
    kind: PortKind,
    /// The connections of this port.
    own: Arc<Connections>,
    stopped: watch::Receiver<bool>,
}

// === impl AcceptLoop ===

impl AcceptLoop {
    /// Begins to accept on `listener`, which does not block; what comes goes through `door`.
    pub(super) fn start(
        listener: std::net::TcpListener,
        door: Arc<Door>,
        entrance: Entrance,
        kind: PortKind,
    ) -> io::Result<Self> {
        let connections = Arc::new(Connections::of_one_port());
        let (stop, stopped) = watch::channel(false);
        let (listener, own) = (TcpListener::from_std(listener)?, Arc::clone(&connections));
        let acceptor = Acceptor { listener, door, entrance, kind, own, stopped };
        Ok(Self { stop, ended: tokio::spawn(acceptor.run()), connections })
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

// === impl Acceptor ===

impl Acceptor {
    async fn run(self) {
        let mut stopped = self.stopped.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // An error means that the owner of the loop, who could stop it, has gone.
                _ = stopped.wait_for(|must_stop| *must_stop) => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let accepted = Accepted { socket, peer, entrance: self.entrance, kind: self.kind };
                    self.door.take_in(accepted, &self.own, &self.stopped);
                }
                Err(error) if descriptors::are_used_up(&error) => {
                    let fault = Fault::Edge.as_str();
                    tracing::error!(entrance = %self.entrance, %error, fault, "out of file descriptors, accept paused");
                    tokio::select! {
                        () = tokio::time::sleep(OUT_OF_DESCRIPTORS_WAIT) => {}
                        _ = stopped.wait_for(|must_stop| *must_stop) => return,
                    }
                }
                // The client went before it was accepted.
                Err(error) => tracing::debug!(entrance = %self.entrance, %error, fault = "client", "accept failed"),
            }
        }
    }
}
