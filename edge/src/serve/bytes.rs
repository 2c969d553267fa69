//! One byte stream, from its first moment to its last.
//!
//! Invariant: a connection is relayed only for a circuit that is confirmed, has not ended and allows its client's address;
//! one that is not relayed ends with a reset.

use std::sync::Arc;

use tokio::net::TcpStream;

use crate::balance::{Attempts, Hold};
use crate::circuit::{LiveCircuit, OpenRequest};
use crate::client::Ends;
use crate::connection::{Busy, ClientStream, Connection, EntrancePort};
use crate::record::{Recording, Spoken};
use crate::refusal::Refused;
use crate::reply::Problem;
use crate::shared::Shared;
use crate::socket::keep_alive;
use crate::tcp::relay::{Early, Relay, RelayRules};
use crate::tcp::{OpenRelay, Recorded, connect, proxy_header};
use crate::words::Words as _;

/// The relay of a byte stream; nothing if the client was turned away, or its connection had to end.
pub(super) async fn open(
    shared: &Shared,
    connection: Arc<Connection>,
    client: ClientStream,
    ends: Option<Ends>,
) -> Option<OpenRelay<ClientStream, TcpStream>> {
    // A byte stream has no pauses between requests in which it could end.
    let busy = Busy::begin(connection);
    // On the heap: it goes along with the relay.
    let mut recording = Box::new(shared.records.begin(&busy.connection, Spoken::Bytes));
    let reaching = reach(shared, &busy, &mut recording);
    let Reached { circuit, open, hold, target } = match busy.connection.unless_ended(reaching).await? {
        Ok(reached) => reached,
        Err(refused) => {
            client.reset();
            recording.refuse(refused);
            return None;
        }
    };
    keep_alive(client.socket());
    let early = Early { to_target: introduction(&circuit, &client, ends), to_client: Vec::new() };
    let rules = RelayRules { idle: circuit.limits.idle, ..RelayRules::default() };
    let relay = Relay::new(client, target, early, rules, Arc::clone(&shared.relays));
    let relay = Recorded::new(relay.within(circuit.bandwidth.clone()), recording);
    Some(OpenRelay::new(relay, open, hold, busy))
}

/// A target, and what leads to it.
struct Reached {
    circuit: Arc<LiveCircuit>,
    open: OpenRequest,
    hold: Option<Hold>,
    target: TcpStream,
}

/// Connects to a target of the circuit at the stream's port. A byte stream need not be answered: that the connection stands is
/// all that there is to see.
async fn reach(shared: &Shared, busy: &Busy, recording: &mut Recording) -> Result<Reached, Refused> {
    let (circuit, open) = admit(shared, busy, recording)?;
    let (connection, mut attempts) = (&busy.connection, Attempts::of(recording.id.clone()));
    let target = connect(&circuit, connection, &mut attempts, recording).await.map_err(|error| {
        let refused = Refused::new(error.problem(), error.to_string());
        let (key, client, fault) = (&circuit.key, connection.client.ip, refused.fault().as_str());
        tracing::warn!(request = %recording.id, %key, %client, %error, fault, "stream rejected: no target");
        refused
    })?;
    attempts.succeeded(&circuit.balancer);
    Ok(Reached { circuit, open, hold: attempts.take_hold(), target })
}

/// The circuit at the stream's port, in which it is open from now on.
fn admit(shared: &Shared, busy: &Busy, recording: &mut Recording) -> Result<(Arc<LiveCircuit>, OpenRequest), Refused> {
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
