//! Tells a target who the client is, in front of the first byte (the PROXY protocol, specification of HAProxy).
//!
//! Invariant: source and destination are of one family; an IPv4 client of an IPv6 socket is an IPv4 client.

use std::net::{IpAddr, SocketAddr};

use entities::circuit::ProxyProtocol;

/// Section 2.2: what every header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, command PROXY.
const PROXY: u8 = 0x21;

/// The header for a connection from `client` that came in at `local`.
pub(crate) fn header(version: ProxyProtocol, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (client, local) = (canonical(client), canonical(local));
    match version {
        ProxyProtocol::V1 => text(client, local).into_bytes(),
        ProxyProtocol::V2 => binary(client, local),
    }
}

/// Section 2.1.
fn text(client: SocketAddr, local: SocketAddr) -> String {
    let family = match (client.ip(), local.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return "PROXY UNKNOWN\r\n".to_owned(),
    };
    format!("PROXY {family} {} {} {} {}\r\n", client.ip(), local.ip(), client.port(), local.port())
}

/// Section 2.2.
fn binary(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (family, addresses): (u8, Vec<u8>) = match (client.ip(), local.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (0x11, [from.octets(), to.octets()].concat()),
        (IpAddr::V6(from), IpAddr::V6(to)) => (0x21, [from.octets(), to.octets()].concat()),
        // No family: the target takes the addresses of the connection.
        _ => (0x00, Vec::new()),
    };
    let mut header = Vec::with_capacity(SIGNATURE.len() + 4 + addresses.len() + 4);
    header.extend_from_slice(SIGNATURE);
    header.extend_from_slice(&[PROXY, family]);
    let ports = if addresses.is_empty() {
        Vec::new()
    } else {
        [client.port().to_be_bytes(), local.port().to_be_bytes()].concat()
    };
    let length = u16::try_from(addresses.len() + ports.len()).unwrap_or(0);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&addresses);
    header.extend_from_slice(&ports);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(version: ProxyProtocol, client: &str, local: &str) -> Vec<u8> {
        header(version, client.parse().expect("valid"), local.parse().expect("valid"))
    }

    #[test]
    fn version_1_is_a_line() {
        let line = |client, local| String::from_utf8(header_of(ProxyProtocol::V1, client, local)).expect("text");
        assert_eq!(line("192.0.2.1:56324", "192.0.2.9:443"), "PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n");
        assert_eq!(line("[2001:db8::1]:1", "[2001:db8::2]:2"), "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n");
        assert_eq!(line("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
        assert_eq!(line("[2001:db8::1]:1", "192.0.2.2:2"), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let bytes = header_of(ProxyProtocol::V2, "192.0.2.1:258", "192.0.2.2:772");
        let mut wanted = SIGNATURE.to_vec();
        wanted.extend_from_slice(&[0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4]);
        assert_eq!(bytes, wanted);
        let bytes = header_of(ProxyProtocol::V2, "[::1]:1", "[::2]:2");
        assert_eq!((bytes.len(), bytes.get(12..16)), (12 + 4 + 36, Some(&[0x21, 0x21, 0, 36][..])));
    }
}
