//! Sockets: the traffic port, dynamic ports, and the connections on them.
//!
//! Invariant: an accept loop that is closed has given its socket back to the operating system when closing returns.

mod accept;
mod arrival;
mod clients;
mod connections;
mod http1;
mod http2;
mod ports;
mod proxy;
mod refuse;
mod socket;
mod stalled;
mod streams;
mod tunnels;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use entities::range::AddressRange;
use tokio::sync::Semaphore;

use crate::circuit::{Entrance, Notice};
use crate::config::ClientLimits;
use crate::tcp::Streams;
use accept::{AcceptLoop, MAX_ANSWERING, ServingContext};
use clients::Clients;
use connections::Connections;
pub(crate) use ports::DynamicPorts;
use ports::ServedBy;
pub(crate) use proxy::{EdgeProxy, SharedProxy};

/// How long a connection that has not brought a request yet may still bring its first while the edge stops: one
/// round trip of a slow client. Browsers open such connections in advance and never close them.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// The traffic port, and all connections of the edge. Dropping it cuts them.
pub(crate) struct TrafficPort {
    accept: AcceptLoop,
    all: CutOnDrop,
}

/// An edge that ends without closing its ports leaves no connection behind.
struct CutOnDrop(Arc<Connections>);

// === impl TrafficPort ===

impl TrafficPort {
    /// Begins to accept on `listener`; the ports to be opened at run time come along.
    pub(crate) fn open(
        listener: TcpListener,
        port_address: std::net::IpAddr,
        proxy: SharedProxy,
        client: ClientLimits,
        uncounted_clients: Vec<AddressRange>,
        streams: Streams,
    ) -> io::Result<(Self, DynamicPorts)> {
        let metrics = Arc::clone(&streams.metrics);
        let all = Arc::new(Connections::new(Arc::clone(&metrics)));
        let clients = Arc::new(Clients::new(client.max_connections_per_client, uncounted_clients));
        let context = ServingContext {
            client,
            clients,
            peers: Arc::clone(&streams.peers),
            memory: Arc::clone(&streams.memory),
            answering: Arc::new(Semaphore::new(MAX_ANSWERING)),
            stalled: Arc::new(Semaphore::new(client.max_stalled)),
            refusals: Arc::clone(&streams.refusals),
            metrics,
        };
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        tracing::info!(%address, "traffic port listens");
        let accept = AcceptLoop::start(
            listener,
            address,
            Entrance::Traffic,
            Arc::clone(&proxy),
            Arc::clone(&all),
            context.clone(),
        );
        let served_by = ServedBy { proxy, context, streams: Arc::new(streams) };
        let ports = DynamicPorts::new(port_address, served_by, Arc::clone(&all));
        Ok((Self { accept, all: CutOnDrop(all) }, ports))
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
