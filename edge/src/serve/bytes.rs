//! One byte stream, from its first moment to its last.
//!
//! Invariant: a connection is relayed only for a circuit that is confirmed, has not ended and allows its client's address;
//! one that is not relayed ends with a reset.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::{Admitted, Server};
use crate::balance::Attempts;
use crate::circuit::{LiveCircuit, OpenRequest};
use crate::client::Ends;
use crate::connection::{Busy, ClientStream, Connection, EntrancePort};
use crate::record::{Recording, Spoken};
use crate::refusal::Refused;
use crate::reply::Problem;
use crate::shared::Shared;
use crate::socket::keep_alive;
use crate::tcp::relay::{Early, Relay, RelayRules};
use crate::tcp::{Recorded, connect, proxy_header};
use crate::words::Words as _;

/// Carries a byte stream to a target and back.
pub(super) async fn serve<M>(server: Arc<Server>, admitted: Admitted<M>) {
    let Admitted { connection, stream, ends, memberships: _memberships, .. } = admitted;
    // A byte stream has no pauses between requests in which it could end.
    let busy = Busy::begin(connection);
    busy.connection.unless_ended(carry(&server, stream, ends, &busy)).await;
}

/// The same; dropping the future cuts the connection.
async fn carry(server: &Server, client: ClientStream, ends: Option<Ends>, busy: &Busy) {
    // On the heap: it goes along with the relay.
    let mut recording = Box::new(server.shared.records.begin(&busy.connection, Spoken::Bytes));
    let (circuit, _open) = match open(&server.shared, busy, &mut recording) {
        Ok(opened) => opened,
        Err(refused) => {
            client.reset();
            return recording.refuse(refused);
        }
    };
    keep_alive(client.socket());
    let mut attempts = Attempts::of(recording.id.clone());
    let target = match reach(&circuit, &busy.connection, &mut attempts, &mut recording).await {
        Ok(target) => target,
        Err(refused) => {
            client.reset();
            return recording.refuse(refused);
        }
    };
    let _hold = attempts.take_hold();
    let early = Early { to_target: introduction(&circuit, &client, ends), to_client: Vec::new() };
    let rules = RelayRules { idle: circuit.limits.idle, ..RelayRules::default() };
    let relay = Relay::new(client, target, early, rules, Arc::clone(&server.shared.relays));
    let relay = relay.within(circuit.bandwidth.clone());
    // Nothing of the circuit's targets and rules is needed any more, and a stream may live for days.
    drop(circuit);
    Recorded::new(relay, recording).await;
}

/// The circuit at the stream's port, in which it is open from now on.
fn open(shared: &Shared, busy: &Busy, recording: &mut Recording) -> Result<(Arc<LiveCircuit>, OpenRequest), Refused> {
    let connection = &busy.connection;
    let circuit = match connection.entrance.port {
        EntrancePort::Circuit(port) => shared.table.by_port(port),
        EntrancePort::Traffic => None,
    };
    let circuit = circuit.ok_or_else(|| Refused::plainly(Problem::UnknownAddress))?;
    recording.circuit = Some(circuit.key.clone());
    if shared.freshness.has_lapsed(circuit.is_public) {
        return Err(Refused::plainly(Problem::Unconfirmed));
    }
    let ip = connection.client.ip;
    if circuit.access.as_ref().is_some_and(|rules| !rules.allows_stream(ip)) {
        let detail = "the address is in no range that the circuit allows";
        return Err(Refused::new(Problem::ClientNotAllowed, detail));
    }
    let open = circuit.open(busy, ip, shared.limits.max_open_per_circuit)?;
    Ok((circuit, open))
}

/// A connection to a target. A byte stream need not be answered: that it stands is all that there is to see.
async fn reach(
    circuit: &LiveCircuit,
    connection: &Connection,
    attempts: &mut Attempts,
    recording: &mut Recording,
) -> Result<TcpStream, Refused> {
    let target = connect(circuit, connection, attempts, recording).await.map_err(|error| {
        let refused = Refused::new(error.problem(), error.to_string());
        let (key, client, fault) = (&circuit.key, connection.client.ip, refused.fault().as_str());
        tracing::warn!(request = %recording.id, %key, %client, %error, fault, "stream rejected: no target");
        refused
    })?;
    attempts.succeeded(&circuit.balancer);
    Ok(target)
}

/// What the target is told about the client.
fn introduction(circuit: &LiveCircuit, client: &ClientStream, ends: Option<Ends>) -> Vec<u8> {
    let Some(version) = circuit.proxy_protocol else { return Vec::new() };
    let socket = client.socket();
    let own = || Some(Ends { client: socket.peer_addr().ok()?, local: socket.local_addr().ok()? });
    match ends.or_else(own) {
        Some(Ends { client, local }) => proxy_header(version, client, local),
        // The client has gone already, and the relay will find out.
        None => Vec::new(),
    }
}
