//! Who the client is: the peer of the socket, or whom a trusted proxy in front of the edge speaks for.
//!
//! Invariant: what an untrusted peer says about anybody's address changes nothing.

mod forwarded;
mod identity;
mod introduction;
pub(crate) mod proxy_header;

use std::net::IpAddr;
use std::time::Duration;

pub(crate) use forwarded::{Ambiguous, ORIGIN_FIELDS, Origin};
pub(crate) use identity::Client;
pub(crate) use introduction::{IntroductionError, introduced};
pub(crate) use proxy_header::Ends;

use entities::range::AddressRange;

/// How long a peer may take to introduce the connection, unless heads must be faster.
const MAX_INTRODUCTION_TIME: Duration = Duration::from_secs(5);

/// Whom the edge believes.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    trusted: Vec<AddressRange>,
    introducing: Vec<AddressRange>,
    introduction_time: Duration,
}

// === impl Peers ===

impl Peers {
    /// Believes those in `trusted`; connections from `introducing` begin with a header, which may take as long as the head of
    /// a request.
    pub(crate) fn new(trusted: Vec<AddressRange>, introducing: Vec<AddressRange>, head_time: Duration) -> Self {
        Self { trusted, introducing, introduction_time: head_time.min(MAX_INTRODUCTION_TIME) }
    }

    /// The client at `ip`.
    pub(crate) fn client(&self, ip: IpAddr) -> Client {
        Client { is_trusted_proxy: self.are_trusted(ip), ..Client::new(ip) }
    }

    /// Whether a connection from here begins with a header of the PROXY protocol.
    pub(crate) fn must_introduce(&self, ip: IpAddr) -> bool {
        AddressRange::any_contains(&self.introducing, ip)
    }

    /// How long that header may take.
    pub(crate) fn introduction_time(&self) -> Duration {
        self.introduction_time
    }

    /// Whom a request is from that came over a connection of the proxy at `peer`.
    ///
    /// # Errors
    /// [`Ambiguous`] if its fields contradict each other.
    pub(crate) fn origin(&self, peer: IpAddr, fields: &http::HeaderMap) -> Result<Origin, Ambiguous> {
        forwarded::origin(peer, fields, |ip| self.are_trusted(ip))
    }

    fn are_trusted(&self, ip: IpAddr) -> bool {
        AddressRange::any_contains(&self.trusted, ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_the_same_on_a_socket_of_either_family() {
        let trusted = vec!["10.0.0.0/8".parse().expect("valid")];
        let introducing = vec!["::ffff:192.0.2.1".parse().expect("valid")];
        let peers = Peers::new(trusted, introducing, Duration::from_secs(30));
        for ip in ["10.0.0.1", "::ffff:10.0.0.1"] {
            assert!(peers.client(ip.parse().expect("an address")).is_trusted_proxy, "{ip}");
        }
        for ip in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert!(peers.must_introduce(ip.parse().expect("an address")), "{ip}");
        }
        assert!(!peers.client("192.0.2.1".parse().expect("an address")).is_trusted_proxy);
    }
}
