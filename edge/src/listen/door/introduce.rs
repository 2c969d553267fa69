//! The first step of the door: finds out whose a connection is (PROXY protocol), before anything else is done with it.
//!
//! Invariant: while a connection waits for its introduction it is in the sets of its port and of the edge, so that code that
//! ends those does not wait for it.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::client::proxy_header::Introduction;
use crate::client::{Ends, IntroductionError, Peers, introduced};
use crate::connection::{Connection, Entrance};
use crate::listen::connections::{Connections, Member};
use crate::refusal::Refused;
use crate::reply::Problem;

/// A connection whose client is known.
pub(super) struct Introduced {
    pub(super) connection: Arc<Connection>,
    /// Of the port, and of the edge.
    pub(super) members: [Member; 2],
    /// Its ends, if a proxy in front of the edge told them.
    pub(super) ends: Option<Ends>,
}

/// Whose connections come in at one port of the edge.
pub(super) struct Introductions<'a> {
    pub(super) peers: &'a Peers,
    /// Of the port, and of the edge.
    pub(super) sets: [&'a Arc<Connections>; 2],
}

// === impl Introductions ===

impl Introductions<'_> {
    /// A connection from `ip` as the sets know it until it is introduced, if it has to be.
    pub(super) fn begin(&self, entrance: Entrance, ip: IpAddr) -> Introduced {
        let connection = Arc::new(Connection::new(entrance, self.peers.client(ip)));
        let members = self.sets.map(|set| set.enter(&connection));
        Introduced { connection, members, ends: None }
    }

    /// Reads the header off `socket` if its peer must send one; nothing if the connection ended before it had brought a
    /// byte, or had to end meanwhile.
    pub(super) async fn pass(
        &self,
        waiting: Introduced,
        socket: &mut TcpStream,
    ) -> Option<Result<Introduced, (Introduced, Refused)>> {
        let ip = waiting.connection.client.ip;
        if !self.peers.must_introduce(ip) {
            return Some(Ok(waiting));
        }
        // Boxed: few connections are introduced, and the longest header must not make the future of every one larger.
        let reading = Box::pin(introduced(socket, self.peers.introduction_time()));
        match waiting.connection.unless_ended(reading).await? {
            Ok(Introduction::OfPeer) => Some(Ok(waiting)),
            Ok(Introduction::Of(ends)) => {
                // In the sets by its client's name before the proxy's name leaves them.
                let introduced = self.begin(waiting.connection.entrance, ends.client.ip());
                Some(Ok(Introduced { ends: Some(ends), ..introduced }))
            }
            Err(IntroductionError::Nothing) => None,
            Err(error) => Some(Err((waiting, Refused::new(Problem::ProxyProtocol, error.to_string())))),
        }
    }
}
