//! Upgraded connections (RFC 9110 §7.8): a WebSocket, or whatever else a client and a target agree on.
//!
//! Invariant: a tunnel begins only after the target's own `101`, whose head reaches the client as it was written, with one
//! field more, the request's name; after it nothing of what passes is interpreted.

mod handshake;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::balance::Hold;
use crate::circuit::OpenRequest;
use crate::connection::Busy;
use crate::metrics::{Counter, metrics};
use crate::rate::Bandwidth;
use crate::record::Recording;
pub(crate) use handshake::{Answer, HandshakeError, shake_hands};
pub(crate) use relay::relay;

/// Protocols that a request may not be upgraded to: they would take the connection out of the sight of its checks.
const REFUSED: [&[u8]; 3] = [b"h2c", b"tls", b"http"];

/// A request that has become a tunnel, on its way out of the HTTP proxy.
pub(crate) struct Switched {
    /// The target, which has said `101`.
    pub(crate) target: TcpStream,
    /// What the client gets first: the head of the `101`, and what the target sent behind it.
    pub(crate) to_client: Vec<u8>,
    /// The circuit knows the tunnel by this.
    pub(crate) open: OpenRequest,
    /// And its target by this, if there are several.
    pub(crate) hold: Option<Hold>,
    /// The connection counts as busy by this.
    pub(crate) busy: Busy,
    /// How long the tunnel may carry nothing.
    pub(crate) idle: Option<Duration>,
    /// How many bytes its circuit carries.
    pub(crate) bandwidth: Option<Arc<Bandwidth>>,
    /// What is known about it.
    pub(crate) recording: Box<Recording>,
}

metrics! {
    /// What is counted of tunnels when they begin.
    pub(crate) struct TunnelMetrics {
        upgrades: Counter = ("upgrades_total", "Requests that became tunnels, such as WebSockets"),
    }
}

/// Whether a request with these values of `Upgrade` may become a tunnel.
pub(crate) fn may_upgrade_to<'a>(protocols: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut has_any = false;
    for token in protocols.flat_map(|value| value.split(|byte| *byte == b',')) {
        let name = token.split(|byte| *byte == b'/').next().unwrap_or_default().trim_ascii();
        if name.is_empty() || REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused)) {
            return false;
        }
        has_any = true;
    }
    has_any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_http_from_the_edge_is_refused() {
        let may = |values: &[&'static str]| may_upgrade_to(values.iter().map(|value| value.as_bytes()));
        assert!(may(&["websocket"]) && may(&["WebSocket"]) && may(&["tcp"]) && may(&["SPDY/3.1", "spdy/3"]));
        assert!(!may(&["h2c"]) && !may(&["websocket, H2C"]) && !may(&["TLS/1.0"]) && !may(&["HTTP/2.0"]));
        assert!(!may(&[]) && !may(&[""]));
    }
}
