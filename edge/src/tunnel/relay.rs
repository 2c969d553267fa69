//! Makes a relay of a tunnel after its request has left the HTTP proxy.
//!
//! Invariant: a tunnel holds two streams and no buffer.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::Switched;
use crate::connection::ClientStream;
use crate::socket::keep_alive;
use crate::tcp::relay::{Early, Relay, RelayMetrics, RelayRules};
use crate::tcp::{OpenRelay, Recorded};

/// The relay between `client` and its target. `to_target` is what the client sent before the target had agreed.
pub(crate) fn relay(
    client: ClientStream,
    to_target: BytesMut,
    switched: Switched,
    metrics: Arc<RelayMetrics>,
) -> OpenRelay<ClientStream, TcpStream> {
    let Switched { target, to_client, open, hold, busy, idle, bandwidth, recording } = switched;
    let early = Early { to_target: to_target.into(), to_client };
    keep_alive(client.socket());
    let rules = RelayRules { idle, ..RelayRules::default() };
    let relay = Relay::new(client, target, early, rules, metrics).within(bandwidth);
    OpenRelay::new(Recorded::new(relay, recording), open, hold, busy)
}
