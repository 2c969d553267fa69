//! One connection to the port of a byte stream, from its first moment to its last.
//!
//! Invariant: a connection is relayed only for a circuit that is confirmed, has not ended and allows its client's address; every one that is not
//! relayed to its end has a log line that says whose fault it was.

use std::sync::Arc;

use entities::ids::Port;
use tokio::net::TcpStream;

use super::relay::{Early, Relay, RelayRules};
use super::{connect, keep_alive, proxy_protocol};
use crate::balance::Attempts;
use crate::circuit::{Busy, LiveCircuit, NotOpened};
use crate::client::{Ends, Peers};
use crate::freshness::Freshness;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::refusals::{Refusal, Refusals};
use crate::table::Table;

/// What all byte streams of the edge are served with.
pub(crate) struct Streams {
    /// Where their circuits are.
    pub(crate) table: Arc<Table>,
    /// Whether those may still be used.
    pub(crate) freshness: Arc<Freshness>,
    /// Whom the edge believes.
    pub(crate) peers: Arc<Peers>,
    /// Whether there is memory for more.
    pub(crate) memory: Arc<Memory>,
    /// What is turned away.
    pub(crate) refusals: Arc<Refusals>,
    /// What may be open in one circuit; 0 is no cap.
    pub(crate) max_open: usize,
    /// What they count.
    pub(crate) metrics: Arc<Metrics>,
}

/// Carries what comes in at `port` to a target; `ends` are those of the client if a proxy stands in between. Dropping the
/// future cuts the connection.
pub(crate) async fn serve(streams: &Streams, port: Port, client: TcpStream, ends: Option<Ends>, busy: &Busy) {
    let connection = &busy.connection;
    let circuit = streams.table.by_port(port).filter(|circuit| !streams.freshness.has_lapsed(circuit.is_public));
    let ip = connection.client.ip;
    if let Some(circuit) = &circuit
        && circuit.access.as_ref().is_some_and(|rules| !rules.allows_stream(ip))
    {
        let detail = "the address is in no range that the circuit allows";
        streams.refusals.note(Refusal::ClientAddress, ip, Some(&circuit.key), detail);
        return reset(&client);
    }
    let opened = circuit.map(|circuit| {
        let opened = circuit.lifetime.open(connection, busy.request, streams.max_open);
        (circuit, opened)
    });
    if let Some((circuit, Err(NotOpened::Full))) = &opened {
        streams.refusals.note(Refusal::CircuitConnections, ip, Some(&circuit.key), streams.max_open);
        return reset(&client);
    }
    let Some((circuit, Ok(_open))) = opened else {
        tracing::debug!(%port, client = %connection.client.ip, "no circuit, or one that nobody has confirmed for long");
        return reset(&client);
    };
    if let Some(Err(wait)) = circuit.rate.as_ref().map(|limiter| limiter.take(connection.client.ip)) {
        streams.refusals.note(Refusal::RateLimit, connection.client.ip, Some(&circuit.key), wait);
        return reset(&client);
    }
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
    let early = Early { to_target: introduction(&circuit, &client, ends), to_client: Vec::new() };
    let rules = RelayRules { idle: circuit.limits.idle, ..RelayRules::default() };
    // Nothing of the circuit's targets and rules is needed any more, and a stream may live for days.
    let (key, bandwidth) = (circuit.key.clone(), circuit.bandwidth.clone());
    drop(circuit);
    let outcome = Relay::new(client, target, early, rules).within(bandwidth).await;
    streams.metrics.count_relay(Some(&outcome));
    outcome.log(&key, connection.client.ip, "stream");
}

/// What the target is told about the client.
fn introduction(circuit: &LiveCircuit, client: &TcpStream, ends: Option<Ends>) -> Vec<u8> {
    let Some(version) = circuit.proxy_protocol else { return Vec::new() };
    let own = || Some(Ends { client: client.peer_addr().ok()?, local: client.local_addr().ok()? });
    match ends.or_else(own) {
        Some(Ends { client, local }) => proxy_protocol::header(version, client, local),
        // The client has gone already, and the relay will find out.
        None => Vec::new(),
    }
}

/// Closes a connection so that the client sees an error, not an empty stream.
pub(crate) fn reset(client: &TcpStream) {
    // Without it the client sees an orderly end, which is as good as nothing better.
    let _ = client.set_zero_linger();
}
