//! Runs tunnels after their requests have left the HTTP proxy.
//!
//! Invariant: a tunnel is a task of its own that holds two sockets and no buffer; it stays in its port's and the edge's
//! set of connections, so whoever ends those ends the tunnel.

use std::sync::Arc;

use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as SocketStream;
use tokio::net::TcpStream;

use super::http1::Upgraded;
use super::stalled::Watched;
use crate::metrics::Metrics;
use crate::tcp::keep_alive;
use crate::tcp::relay::{Early, Relay, RelayRules, duplicate};
use crate::tunnel::Switched;

/// Starts a tunnel; it keeps its `memberships` until it ends.
pub(super) fn start(upgraded: Upgraded, memberships: impl Send + 'static, metrics: &Arc<Metrics>) {
    let Upgraded { client, to_target, switched } = upgraded;
    let Switched { key, client: address, target, to_client, open, hold, busy, idle, bandwidth } = switched;
    let early = Early { to_target: to_target.into(), to_client };
    let rules = RelayRules { idle, ..RelayRules::default() };
    let metrics = Arc::clone(metrics);
    let client = match bare(client) {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(%error, fault = "edge", "a tunnel could not be set up");
            return;
        }
    };
    keep_alive(&client);
    tokio::spawn(async move {
        let _memberships = memberships;
        let outcome = busy.connection.unless_ended(Relay::new(client, target, early, rules).within(bandwidth)).await;
        drop((open, hold));
        metrics.count_relay(outcome.as_ref());
        if let Some(outcome) = outcome {
            outcome.log(&key, address, "tunnel");
        }
    });
}

/// The client's socket without what pingora keeps around it.
fn bare(client: Stream) -> std::io::Result<TcpStream> {
    let Ok(watched) = client.into_any().downcast::<Watched>() else {
        return Err(std::io::ErrorKind::Unsupported.into());
    };
    let client = watched.into_inner();
    let Some(socket) = client.as_any().downcast_ref::<SocketStream>() else {
        return Err(std::io::ErrorKind::Unsupported.into());
    };
    duplicate(socket)
}
