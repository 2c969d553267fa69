//! Who the client behind trusted proxies is.
//!
//! Invariant: pure. What a client says about itself counts only as far as proxies that are trusted have passed it on.

use std::net::IpAddr;

use entities::range::AddressRange;
use http::HeaderMap;

/// Where proxies write the addresses that they were asked from, the nearest one last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Where they write how they were asked.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Every field by which a proxy gives itself away.
const TRACES_OF_PROXIES: [&str; 4] = [FORWARDED_FOR, "forwarded", "via", "x-real-ip"];

/// Who asks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Whom the request is from: the nearest address that no trusted proxy has.
    pub client: IpAddr,
    /// Whether `client` is known: no proxy that is not trusted stands between.
    pub is_known: bool,
    /// Whether the request came to the nearest proxy over TLS.
    pub is_secure: bool,
}

// === impl Origin ===

impl Origin {
    /// Whom a request with these headers is from that came from `peer`.
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressRange]) -> Self {
        let peer = peer.to_canonical();
        if !AddressRange::any_contains(trusted, peer) {
            let is_known = !TRACES_OF_PROXIES.into_iter().any(|name| headers.contains_key(name));
            return Self { peer, client: peer, is_known, is_secure: false };
        }
        let mut origin = Self { peer, client: peer, is_known: true, is_secure: is_forwarded_https(headers) };
        for hop in hops(headers) {
            match hop {
                Some(address) => origin.client = address,
                // A trusted proxy has passed on what nobody can read: whoever is behind it stays unknown.
                None => origin.is_known = false,
            }
            if !origin.is_known || !AddressRange::any_contains(trusted, origin.client) {
                break;
            }
        }
        origin
    }
}

/// The addresses of `X-Forwarded-For`, the nearest one first; `None` for what is no address.
fn hops(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    headers
        .get_all(FORWARDED_FOR)
        .into_iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or("?").rsplit(','))
        .map(|hop| hop.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical()))
}

/// Whether the nearest proxy says that it was asked over TLS: only the last value is its own.
fn is_forwarded_https(headers: &HeaderMap) -> bool {
    let last = headers.get_all(FORWARDED_PROTO).into_iter().next_back().and_then(|value| value.to_str().ok());
    last.and_then(|value| value.rsplit(',').next()).is_some_and(|word| word.trim().eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn origin(peer: &str, fields: &[(&'static str, &'static str)]) -> Origin {
        let trusted: Vec<AddressRange> = ["10.0.0.0/8", "fd00::1"].map(|text| text.parse().expect("a range")).into();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a value"));
        }
        Origin::of(address(peer), &headers, &trusted)
    }

    #[test]
    fn the_client_is_the_nearest_address_that_is_no_trusted_proxy() {
        for (peer, forwarded, client) in [
            ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
            ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "127.0.0.1, 203.0.113.9, 10.0.0.2,fd00::1", "203.0.113.9"),
            ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ] {
            let found = origin(peer, &[("x-forwarded-for", forwarded)]);
            assert_eq!(found.client, address(client), "{peer}, {forwarded}");
        }
        let in_two_fields = [("x-forwarded-for", "127.0.0.1, 203.0.113.9"), ("x-forwarded-for", "10.0.0.3")];
        assert_eq!(origin("10.0.0.1", &in_two_fields).client, address("203.0.113.9"));
    }

    #[test]
    fn a_client_behind_a_proxy_that_is_not_trusted_or_not_readable_is_unknown() {
        assert!(origin("127.0.0.1", &[]).is_known);
        assert!(origin("10.0.0.1", &[("x-forwarded-for", "203.0.113.9")]).is_known);
        for trace in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
            assert!(!origin("127.0.0.1", &[(trace, "127.0.0.1")]).is_known, "{trace}");
        }
        assert!(!origin("10.0.0.1", &[("x-forwarded-for", "127.0.0.1, unknown")]).is_known);
    }

    #[test]
    fn https_counts_only_when_the_nearest_trusted_proxy_says_so() {
        let says = |peer, value| origin(peer, &[("x-forwarded-proto", value)]).is_secure;
        assert!(says("10.0.0.1", "https"));
        assert!(says("10.0.0.1", "http, HTTPS"));
        assert!(!says("10.0.0.1", "https, http"));
        assert!(!says("10.0.0.1", "http"));
        assert!(!says("192.0.2.1", "https"));
    }

    #[test]
    fn a_range_is_an_address_or_a_network() {
        for text in ["", "10.0.0", "10.0.0.0/33", "localhost", "::/129"] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
        let loopback: AddressRange = "127.0.0.1".parse().expect("an address");
        assert!(loopback.contains(address("::ffff:127.0.0.1")) && !loopback.contains(address("127.0.0.2")));
    }
}
