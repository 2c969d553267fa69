//! Carries a tunnel after its request has left the HTTP proxy.
//!
//! Invariant: a tunnel is a task of its own that holds two streams and no buffer.

use std::sync::Arc;

use bytes::BytesMut;

use super::Switched;
use crate::connection::ClientStream;
use crate::socket::keep_alive;
use crate::tcp::Recorded;
use crate::tcp::relay::{Early, Relay, RelayMetrics, RelayRules};

/// Carries a tunnel to its end. `to_target` is what the client sent before the target had agreed.
pub(crate) async fn run(client: ClientStream, to_target: BytesMut, switched: Switched, metrics: Arc<RelayMetrics>) {
    let Switched { target, to_client, open, hold, busy, idle, bandwidth, recording } = switched;
    let early = Early { to_target: to_target.into(), to_client };
    keep_alive(client.socket());
    let rules = RelayRules { idle, ..RelayRules::default() };
    let relay = Relay::new(client, target, early, rules, metrics).within(bandwidth);
    busy.connection.unless_ended(Recorded::new(relay, recording)).await;
    drop((open, hold));
}
