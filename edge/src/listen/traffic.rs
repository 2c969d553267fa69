//! The traffic port, and all connections of the edge.
//!
//! Invariant: an edge that ends, in order or not, leaves no connection behind.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use entities::range::AddressRange;

use super::accept::AcceptLoop;
use super::connections::{ConnectionMetrics, Connections};
use super::door::{Door, PortKind};
use super::ports::DynamicPorts;
use crate::connection::{EntrancePort, Notice, Secure};
use crate::egress::OwnPorts;
use crate::serve::Server;

/// How long a connection that has not brought a request yet may still bring its first while the edge stops: one
/// round trip of a slow client. Browsers open such connections in advance and never close them.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// How the edge listens.
pub(crate) struct Listening {
    /// The traffic port's socket.
    pub(crate) traffic: TcpListener,
    /// Where dynamic ports bind.
    pub(crate) port_address: IpAddr,
    /// The ports of circuits, for code that must not connect to them.
    pub(crate) own_ports: Arc<OwnPorts>,
    /// Whose connections are not counted as those of one client.
    pub(crate) uncounted_clients: Vec<AddressRange>,
    /// What secures connections.
    pub(crate) secure: Option<Arc<dyn Secure>>,
    /// What is counted of connections.
    pub(crate) metrics: Arc<ConnectionMetrics>,
}

/// The traffic port, and all connections of the edge. Dropping it cuts them.
pub(crate) struct TrafficPort {
    accept: AcceptLoop,
    all: CutOnDrop,
}

/// An edge that ends without closing its ports leaves no connection behind.
struct CutOnDrop(Arc<Connections>);

// === impl TrafficPort ===

impl TrafficPort {
    /// Begins to accept on the traffic port; the ports to be opened at run time come along. Everything is served by
    /// `server`.
    pub(crate) fn open(listening: Listening, server: Arc<Server>) -> io::Result<(Self, DynamicPorts)> {
        let Listening { traffic, port_address, own_ports, uncounted_clients, secure, metrics } = listening;
        let all = Arc::new(Connections::new(metrics));
        let door = Arc::new(Door::new(Arc::clone(&all), server, uncounted_clients, secure));
        let entrance = door.entrance(EntrancePort::Traffic);
        traffic.set_nonblocking(true)?;
        tracing::info!(address = %traffic.local_addr()?, "traffic port listens");
        let accept = AcceptLoop::start(traffic, Arc::clone(&door), entrance, PortKind::Http)?;
        Ok((Self { accept, all: CutOnDrop(all) }, DynamicPorts::new(port_address, door, own_ports)))
    }

    /// Stops accepting; idle connections end at once, others may go on for `drain_time`, then they are cut.
    ///
    /// Dynamic ports must be closed before.
    pub(crate) async fn close(self, drain_time: Duration) {
        let Self { accept, all: cut_on_drop } = self;
        let all = &cut_on_drop.0;
        all.notify(Notice::EndWhenIdle);
        accept.close(Notice::EndWhenIdle).await;
        let gentle = FIRST_REQUEST_TIME.min(drain_time);
        if tokio::time::timeout(gentle, all.wait_until_none()).await.is_err() {
            all.notify(Notice::EndUnlessBusy);
            if tokio::time::timeout(drain_time - gentle, all.wait_until_none()).await.is_err() {
                tracing::warn!(connections = all.len(), "the drain time is over, cutting what is still open");
            }
        }
        all.notify(Notice::Cut);
        all.wait_until_none().await;
    }
}

// === impl CutOnDrop ===

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.notify(Notice::Cut);
    }
}
