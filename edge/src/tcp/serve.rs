//! One connection to the port of a byte stream, from its first moment to its last.
//!
//! Invariant: a connection is relayed only for a circuit that is confirmed and has not ended, and every one that is not
//! relayed to its end has a log line that says whose fault it was.

use std::sync::Arc;

use entities::ids::Port;
use tokio::net::TcpStream;

use super::relay::{Early, Relay, RelayRules};
use super::{connect, keep_alive, proxy_protocol};
use crate::balance::Attempts;
use crate::circuit::{Busy, LiveCircuit, NotOpened};
use crate::freshness::Freshness;
use crate::metrics::Metrics;
use crate::refusals::{Refusal, Refusals};
use crate::table::Table;

/// What all byte streams of the edge are served with.
pub(crate) struct Streams {
    /// Where their circuits are.
    pub(crate) table: Arc<Table>,
    /// Whether those may still be used.
    pub(crate) freshness: Arc<Freshness>,
    /// What is turned away.
    pub(crate) refusals: Arc<Refusals>,
    /// What may be open in one circuit; 0 is no cap.
    pub(crate) max_open: usize,
    /// What they count.
    pub(crate) metrics: Arc<Metrics>,
}

/// Carries what comes in at `port` to a target. Dropping the future cuts the connection.
pub(crate) async fn serve(streams: &Streams, port: Port, client: TcpStream, busy: &Busy) {
    let connection = &busy.connection;
    let circuit = streams.table.by_port(port).filter(|circuit| !streams.freshness.has_lapsed(circuit.is_public));
    let opened = circuit.map(|circuit| {
        let opened = circuit.lifetime.open(connection, busy.request, streams.max_open);
        (circuit, opened)
    });
    if let Some((circuit, Err(NotOpened::Full))) = &opened {
        streams.refusals.note(Refusal::CircuitConnections, connection.client.ip, Some(&circuit.key), streams.max_open);
        return reset(&client);
    }
    let Some((circuit, Ok(_open))) = opened else {
        tracing::debug!(%port, client = %connection.client.ip, "no circuit, or one that nobody has confirmed for long");
        return reset(&client);
    };
    keep_alive(&client);
    let mut attempts = Attempts::default();
    let target = match connect(&circuit, connection, &mut attempts, &streams.metrics).await {
        Ok(target) => target,
        Err(error) => {
            tracing::warn!(key = %circuit.key, client = %connection.client.ip, %error, fault = error.fault(), "a client is sent away");
            return reset(&client);
        }
    };
    // A byte stream need not be answered: that the connection stands is all that there is to see.
    attempts.succeeded(&circuit.balancer);
    let _hold = attempts.take_hold();
    let early = Early { to_target: introduction(&circuit, &client), to_client: Vec::new() };
    let rules = RelayRules { idle: circuit.limits.idle, ..RelayRules::default() };
    // Nothing of the circuit's targets and rules is needed any more, and a stream may live for days.
    let key = circuit.key.clone();
    drop(circuit);
    let outcome = Relay::new(client, target, early, rules).await;
    streams.metrics.count_relay(Some(&outcome));
    outcome.log(&key, connection.client.ip, "stream");
}

/// What the target is told about the client.
fn introduction(circuit: &LiveCircuit, client: &TcpStream) -> Vec<u8> {
    let Some(version) = circuit.proxy_protocol else { return Vec::new() };
    match (client.peer_addr(), client.local_addr()) {
        (Ok(peer), Ok(local)) => proxy_protocol::header(version, peer, local),
        // The client has gone already, and the relay will find out.
        _ => Vec::new(),
    }
}

/// Closes a connection so that the client sees an error, not an empty stream.
pub(crate) fn reset(client: &TcpStream) {
    // Without it the client sees an orderly end, which is as good as nothing better.
    let _ = client.set_zero_linger();
}
