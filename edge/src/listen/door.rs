//! The one way in: accepted → introduced → shed → capped → secured → protocol → served. One file and one type a step; this
//! one has their order.
//!
//! Invariant: every connection of every kind of port takes all steps in this order, and whatever ends on the way has one
//! record.

mod caps;
mod introduce;
mod protocol;
mod secure;
mod shed;

use std::net::SocketAddr;
use std::sync::Arc;

use entities::range::AddressRange;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::connections::{Connections, Member};
use crate::connection::{Entrance, EntrancePort, Secure};
use crate::record::Spoken;
use crate::refusal::Refused;
use crate::serve::{Admitted, Protocol, Server};
use crate::socket::reset;
use caps::{Caps, ConnectionPermit};
use introduce::{Introduced, Introductions};
pub(super) use protocol::PortKind;
use secure::Securing;
use shed::Shedding;

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) entrance: Entrance,
    pub(super) kind: PortKind,
}

/// What keeps a connection in its sets and under its cap.
type Memberships = ([Member; 2], Option<ConnectionPermit>);

/// The door of an edge.
pub(super) struct Door {
    /// The connections of the edge.
    all: Arc<Connections>,
    shedding: Shedding,
    caps: Arc<Caps>,
    securing: Securing,
    server: Arc<Server>,
}

// === impl Door ===

impl Door {
    /// Leads to `server`; the connections of all ports are in `all`, and those of clients in `uncounted` are under no cap.
    pub(super) fn new(
        all: Arc<Connections>,
        server: Arc<Server>,
        uncounted: Vec<AddressRange>,
        secure: Option<Arc<dyn Secure>>,
    ) -> Self {
        Self {
            all,
            shedding: Shedding(Arc::clone(&server.shared.memory)),
            caps: Arc::new(Caps::new(server.shared.limits.max_connections_per_client, uncounted)),
            securing: Securing(secure),
            server,
        }
    }

    /// How connections come in at `port`.
    pub(super) fn entrance(&self, port: EntrancePort) -> Entrance {
        Entrance { port, is_secure: self.securing.is_on() }
    }

    /// Takes a connection in that has come to a port whose connections are `own`. It is in the sets when this returns.
    pub(super) fn take_in(
        self: &Arc<Self>,
        accepted: Accepted,
        own: &Arc<Connections>,
        is_closing: &watch::Receiver<bool>,
    ) {
        let (door, own, is_closing) = (Arc::clone(self), Arc::clone(own), is_closing.clone());
        let waiting = self.introductions(&own).begin(accepted.entrance, accepted.peer.ip());
        let passing = async move {
            // Boxed: the steps need more memory than most connections do afterwards, and give it back here.
            let passed = Box::pin(door.pass(accepted, waiting, &own, is_closing)).await;
            if let Some((protocol, admitted)) = passed {
                door.server.serve(protocol, admitted).await;
            }
        };
        tokio::spawn(passing);
    }

    fn introductions<'a>(&'a self, own: &'a Arc<Connections>) -> Introductions<'a> {
        Introductions { peers: &self.server.shared.peers, sets: [own, &self.all] }
    }

    /// Leads a connection through all steps; nothing if it has ended on the way.
    async fn pass(
        &self,
        accepted: Accepted,
        waiting: Introduced,
        own: &Arc<Connections>,
        is_closing: watch::Receiver<bool>,
    ) -> Option<(Protocol, Admitted<Memberships>)> {
        let Accepted { mut socket, entrance, kind, .. } = accepted;
        let records = &self.server.shared.records;
        let spoken = if kind == PortKind::Bytes { Spoken::Bytes } else { Spoken::Nothing };
        let introduced = self.introductions(own).pass(waiting, &mut socket).await?;
        let Introduced { connection, members, ends } = match introduced {
            Ok(introduced) => introduced,
            Err((waiting, refused)) => {
                records.turn_away(&waiting.connection, spoken, refused);
                return None;
            }
        };
        if let Err(refused) = self.shedding.pass(&connection, kind) {
            reset(&socket);
            records.turn_away(&connection, spoken, refused);
            return None;
        }
        let permit = self.caps.pass(&connection.client, entrance);
        // A client that is turned away is told so in its own protocol, which is known behind the next two steps; if too many are
        // told already, it hears nothing.
        let answering = permit.as_ref().err().map(|_| self.server.may_answer());
        let (permit, refused): (_, Option<Refused>) = match permit {
            Ok(permit) => (Some(permit), None),
            Err(refused) if kind == PortKind::Bytes || answering.as_ref().is_some_and(Option::is_none) => {
                reset(&socket);
                records.turn_away(&connection, spoken, refused);
                return None;
            }
            Err(refused) => (None, Some(refused)),
        };
        let secured = connection.unless_ended(self.securing.pass(socket)).await?;
        let mut stream = match secured {
            Ok(stream) => stream,
            Err(refused) => {
                records.turn_away(&connection, spoken, refused);
                return None;
            }
        };
        let deciding = protocol::pass(&mut stream, kind, entrance, &self.server.shared.table);
        let protocol::Spoken { protocol, first_bytes } = connection.unless_ended(deciding).await??;
        if let Some(refused) = refused {
            self.server.turn_away(protocol, stream, &connection, refused).await;
            return None;
        }
        let memberships: Memberships = (members, permit);
        let admitted = Admitted { connection, stream, first_bytes, ends, memberships, is_closing };
        Some((protocol, admitted))
    }
}
