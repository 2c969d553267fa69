//! A circuit behind one kind of port, with the target that the kind needs.

use std::net::{IpAddr, SocketAddr};

use entities::circuit::{Backend, Circuit, Protocol};
use entities::target::Target;
use testkit::echo::Echo;
use testkit::origin::{Origin, Request};
use testkit::ports::free_port;
use testkit::raw::connect_from;
use tokio::io::AsyncWriteExt as _;

use super::Case;
use super::double::Line;
use super::guest::Guest;
use crate::harness::{TestEdge, at, by_host, by_port};

/// What is spoken, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP/1 at the traffic port.
    Traffic,
    /// HTTP/1 at a circuit's port.
    Port,
    /// HTTP/2 at a circuit's port.
    Http2,
    /// HTTP/1 at a circuit's port that takes HTTP/2.
    Http1BesideHttp2,
    /// Bytes at a circuit's port.
    Bytes,
    /// A WebSocket at the traffic port.
    TrafficTunnel,
    /// Another upgrade at a circuit's port.
    PortTunnel,
    /// An upgrade of HTTP/1 at a circuit's port that takes HTTP/2.
    TunnelBesideHttp2,
}

/// A circuit that is served, and its target.
#[derive(Debug)]
pub(super) struct Place {
    case: Case,
    pub(super) address: SocketAddr,
    pub(super) circuit: Circuit,
    /// The host that its requests name.
    host: String,
    /// Its target, where HTTP is spoken.
    origin: Option<Origin>,
    /// Its target of bytes, which only has to stay.
    _echo: Option<Echo>,
}

// === impl Kind ===

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Traffic,
        Self::Port,
        Self::Http2,
        Self::Http1BesideHttp2,
        Self::Bytes,
        Self::TrafficTunnel,
        Self::PortTunnel,
        Self::TunnelBesideHttp2,
    ];

    pub(super) fn is_at_traffic(self) -> bool {
        matches!(self, Self::Traffic | Self::TrafficTunnel)
    }

    pub(super) fn is_tunnel(self) -> bool {
        matches!(self, Self::TrafficTunnel | Self::PortTunnel | Self::TunnelBesideHttp2)
    }

    /// Whether connections become relays, which have no pauses between requests.
    pub(super) fn is_relayed(self) -> bool {
        self == Self::Bytes || self.is_tunnel()
    }

    /// A circuit of this kind, and where it is served.
    pub(super) fn circuit(self, edge: &TestEdge, name: &str, target: Target) -> (Circuit, SocketAddr) {
        if self.is_at_traffic() {
            return (by_host(name, vec![target]), edge.address);
        }
        let port = free_port();
        let mut circuit = by_port(name, port, vec![target]);
        (circuit.protocol, circuit.backend) = match self {
            Self::Http2 | Self::Http1BesideHttp2 | Self::TunnelBesideHttp2 => (Protocol::H2, Backend::Http),
            Self::Bytes => (Protocol::Tcp, Backend::Tcp),
            _ => (Protocol::Http, Backend::Http),
        };
        (circuit, at(port))
    }

    /// The head with which a connection asks to become a tunnel.
    pub(super) fn upgrade(self, host: &str) -> String {
        let upgrade = match self {
            Self::TrafficTunnel => {
                "websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
            }
            _ => "tcp",
        };
        format!("GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n")
    }
}

// === impl Place ===

impl Place {
    /// Serves a circuit of this name.
    pub(super) async fn open(edge: &TestEdge, case: Case, name: &str) -> Self {
        Self::open_changed(edge, case, name, |_| {}).await
    }

    /// The same after `change`.
    pub(super) async fn open_changed(
        edge: &TestEdge,
        case: Case,
        name: &str,
        change: impl FnOnce(&mut Circuit),
    ) -> Self {
        let (origin, echo, target) = if case.kind == Kind::Bytes {
            let echo = Echo::start().await;
            let target = echo.target();
            (None, Some(echo), target)
        } else {
            let origin = Origin::start(name).await;
            let target = origin.target();
            (Some(origin), None, target)
        };
        let (mut circuit, address) = case.kind.circuit(edge, name, target);
        change(&mut circuit);
        edge.serve(&circuit).await;
        Self { case, address, circuit, host: format!("{name}.apps.test"), origin, _echo: echo }
    }

    /// Connects, and says nothing yet.
    pub(super) async fn connect(&self, from: IpAddr) -> Line {
        connect(self.case, self.address, from).await
    }

    /// A client that has connected.
    pub(super) async fn enter(&self, from: IpAddr) -> Guest {
        Guest::over(self.connect(from).await, self.case.kind, &self.host).await
    }

    /// A client that a proxy introduces by this header.
    pub(super) async fn enter_introduced(&self, proxy: IpAddr, header: &[u8]) -> Guest {
        let mut socket = connect_from(proxy, self.address).await;
        socket.write_all(header).await.expect("sends");
        Guest::over(self.case.securing.line(socket), self.case.kind, &self.host).await
    }

    /// A client that is served, and stays.
    pub(super) async fn seat(&self, from: IpAddr) -> Guest {
        let mut guest = self.enter(from).await;
        guest.expect_served("a client that has room").await;
        guest
    }

    /// What the target has seen of HTTP.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.origin.as_ref().map(Origin::requests).unwrap_or_default()
    }

    /// Lets one slow request go on.
    pub(super) fn release(&self) {
        self.origin.as_ref().expect("a target that speaks HTTP").release();
    }
}

/// Connects to `address`, and says nothing yet.
pub(super) async fn connect(case: Case, address: SocketAddr, from: IpAddr) -> Line {
    let socket = connect_from(from, address).await;
    socket.set_nodelay(true).expect("a socket");
    case.securing.line(socket)
}
