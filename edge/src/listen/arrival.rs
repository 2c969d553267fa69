//! Finds out whose a new connection is, before anything else is done with it.
//!
//! Invariant: while a connection waits for its introduction it is in the sets of its port and of the edge, so that whoever
//! ends those does not wait for it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncRead;

use super::connections::{Connections, Member, next_number};
use crate::circuit::{Client, Connection, Entrance};
use crate::client::proxy_header::Introduction;
use crate::client::{Ends, Peers, introduced};
use crate::refusals::{Refusal, Refusals};

/// A connection that has come.
pub(super) struct Arrival {
    /// Whose it is.
    pub(super) client: Client,
    /// Its ends, if a proxy in front of the edge told them.
    pub(super) ends: Option<Ends>,
    /// Until it is in the sets by its client's name.
    _members: Option<[Member; 2]>,
}

/// Where connections arrive.
pub(super) struct Gate<'a> {
    pub(super) entrance: Entrance,
    /// Of the port, and of the edge.
    pub(super) sets: [&'a Arc<Connections>; 2],
    pub(super) peers: &'a Peers,
    pub(super) refusals: &'a Refusals,
}

// === impl Arrival ===

impl Arrival {
    /// A connection that nobody has to introduce.
    pub(super) fn of(client: Client) -> Self {
        Self { client, ends: None, _members: None }
    }
}

// === impl Gate ===

impl Gate<'_> {
    /// Whose the connection is that `peer` has opened; nothing if it was turned away or had to end.
    pub(super) async fn arrive(&self, stream: &mut (impl AsyncRead + Unpin), peer: SocketAddr) -> Option<Arrival> {
        let client = self.peers.client(peer.ip());
        if !self.peers.must_introduce(peer.ip()) {
            return Some(Arrival::of(client));
        }
        let waiting = Arc::new(Connection::new(next_number(), self.entrance, client));
        let members = self.sets.map(|set| set.enter(&waiting));
        let ends = match waiting.unless_ended(introduced(stream, self.peers.introduction_time())).await? {
            Ok(Introduction::Of(ends)) => Some(ends),
            Ok(Introduction::OfPeer) => None,
            Err(error) => {
                self.refusals.note(Refusal::ProxyProtocol, peer.ip(), None, error);
                return None;
            }
        };
        let client = self.peers.client(ends.map_or(peer.ip(), |ends| ends.client.ip()));
        Some(Arrival { client, ends, _members: Some(members) })
    }
}
