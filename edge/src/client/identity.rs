//! Who is at the other end, as targets and logs are told.
//!
//! Invariant: an IPv4 client of an IPv6 socket is an IPv4 client.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::HeaderValue;

/// Who is at the other end, with the field values that say so prepared once for all requests of the connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The address; an IPv4 client of an IPv6 socket is an IPv4 client.
    pub(crate) ip: IpAddr,
    /// For `X-Forwarded-For`.
    pub(crate) ip_value: HeaderValue,
    /// Whether it is a proxy that may speak for others.
    pub(crate) is_trusted_proxy: bool,
    /// Whether somebody is behind it of whom nothing is known: what its address may do is not theirs.
    pub(crate) is_hidden: bool,
    /// The address as a node of `Forwarded` (RFC 7239 §6): `10.0.0.1` or `"[2001:db8::1]"`.
    pub(crate) node: String,
}

// === impl Client ===

impl Client {
    /// The client at `ip`.
    pub(crate) fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let text = ip.to_string();
        let node = match ip {
            IpAddr::V4(_) => text.clone(),
            IpAddr::V6(_) => {
                let mut node = String::with_capacity(text.len() + 4);
                // Writing to a string does not fail.
                let _ = write!(node, "\"[{text}]\"");
                node
            }
        };
        // An address is made of characters that a field value may have.
        let ip_value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { ip, ip_value, is_trusted_proxy: false, is_hidden: false, node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_quoted_as_rfc_7239_asks() {
        let node = |ip: &str| Client::new(ip.parse().expect("valid")).node;
        assert_eq!(node("10.0.0.1"), "10.0.0.1");
        assert_eq!(node("2001:db8::1"), "\"[2001:db8::1]\"");
        assert_eq!(node("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
