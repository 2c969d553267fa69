//! The header of the PROXY protocol, off a connection that may bring anything in pieces of any size.
//!
//! Invariant: however the bytes come, what is read is the same, and it ends where the header ends.

#![no_main]

use std::net::SocketAddr;

use entities::circuit::ProxyProtocol;
use libfuzzer_sys::fuzz_target;

use edge::client::proxy_header::{Ends, Introduction, MAX_BYTES, Progress, progress};
use edge::tcp::proxy_protocol;

/// The files themselves: with the crate, pingora and OpenSSL would have to be built with instrumentation.
#[path = "../../src"]
mod edge {
    pub(crate) mod client {
        pub(crate) mod proxy_header;
    }
    pub(crate) mod tcp {
        pub(crate) mod proxy_protocol;
    }
}

/// What came of a connection, and how many of its bytes were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Read {
    end: Progress,
    position: usize,
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, MAX_BYTES);
    for piece in [1, 2, 7, 100] {
        let in_pieces = read(bytes, piece);
        match (whole.end, in_pieces.end) {
            (Progress::Done(_), _) | (_, Progress::Done(_)) => assert_eq!(whole, in_pieces, "pieces of {piece}"),
            // Small pieces can show sooner that it will never be one.
            (Progress::Malformed(_), Progress::Malformed(_)) => assert!(in_pieces.position <= whole.position),
            (Progress::Malformed(_), Progress::More(_)) => panic!("pieces of {piece} hide: {whole:?}"),
            (Progress::More(_), _) => {}
        }
    }
    if let Progress::Done(introduction) = whole.end {
        let header = &bytes[..whole.position];
        assert_eq!(Some(whole.position), length(bytes));
        assert_eq!(read(header, MAX_BYTES), whole);
        for behind in [&b"\r\n\r\n\0\r\nQUIT\n"[..], b"PROXY UNKNOWN\r\n", b"\n", &[0xff; 2 * MAX_BYTES]] {
            assert_eq!(read(&[header, behind].concat(), MAX_BYTES), whole);
        }
        if let Introduction::Of(ends) = introduction {
            assert_eq!(stated(header), Some(ends));
            passes_on(ends);
        }
    }
});

/// Reads as the edge does: never more than was asked for, and never more than a piece at a time.
fn read(bytes: &[u8], piece: usize) -> Read {
    let mut position = 0;
    loop {
        let end = progress(&bytes[..position]);
        let Progress::More(missing) = end else { return Read { end, position } };
        assert!(missing > 0, "asks for nothing at {position}");
        assert!(position + missing <= MAX_BYTES, "asks for {missing} bytes at {position}");
        if let Some(length) = length(bytes).filter(|length| *length <= MAX_BYTES) {
            assert!(position + missing <= length, "asks for {missing} bytes at {position} of {length}");
        }
        let more = missing.min(piece).min(bytes.len() - position);
        if more == 0 {
            return Read { end, position };
        }
        position += more;
    }
}

/// Where a header that begins so ends, if it is one.
fn length(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        let length = bytes.get(14..16)?;
        return Some(16 + usize::from(length[0]) * 256 + usize::from(length[1]));
    }
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    (bytes.starts_with(b"PROXY ") && line >= b"PROXY UNKNOWN\r\n".len()).then_some(line)
}

/// What a header says, as its specification has it.
fn stated(header: &[u8]) -> Option<Ends> {
    if let Ok(line) = std::str::from_utf8(header)
        && let Some(rest) = line.strip_prefix("PROXY TCP").and_then(|rest| rest.strip_suffix("\r\n"))
    {
        let words: Vec<&str> = rest.split(' ').collect();
        let [family, client, local, client_port, local_port] = words[..] else { return None };
        let at = |ip: &str, port: &str| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?));
        let ends = Ends { client: at(client, client_port)?, local: at(local, local_port)? };
        let is_stated = |at: SocketAddr| at.is_ipv4() == (family == "4") && matches!(family, "4" | "6");
        return (is_stated(ends.client) && is_stated(ends.local)).then_some(ends);
    }
    let port = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    if header.get(13) == Some(&0x11) {
        let ip = |at: usize| Some(<[u8; 4]>::try_from(header.get(at..at + 4)?).ok()?.into());
        Some(Ends { client: SocketAddr::new(ip(16)?, port(24)?), local: SocketAddr::new(ip(20)?, port(26)?) })
    } else {
        let ip = |at: usize| Some(<[u8; 16]>::try_from(header.get(at..at + 16)?).ok()?.into());
        Some(Ends { client: SocketAddr::new(ip(16)?, port(48)?), local: SocketAddr::new(ip(32)?, port(50)?) })
    }
}

/// What the edge tells a target about these ends, it would understand itself.
fn passes_on(ends: Ends) {
    let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let ends = Ends { client: canonical(ends.client), local: canonical(ends.local) };
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let header = proxy_protocol::header(version, ends.client, ends.local);
        let Read { end, position } = read(&header, MAX_BYTES);
        assert_eq!(position, header.len());
        match end {
            Progress::Done(Introduction::Of(read)) => assert_eq!(read, ends),
            Progress::Done(Introduction::OfPeer) => assert_ne!(ends.client.is_ipv4(), ends.local.is_ipv4()),
            _ => panic!("{end:?}"),
        }
    }
}
