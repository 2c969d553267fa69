//! Reads the header of the PROXY protocol (specification of HAProxy, versions 1 and 2).
//!
//! Invariant: for any bytes the answer is one of the three; [`Progress::More`] never asks for a byte that may lie behind the
//! header, and a header never has more than [`MAX_BYTES`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Section 2.2: version 2 and the room for the longest addresses and a few hundred bytes of extensions.
pub(crate) const MAX_BYTES: usize = 536;

/// Section 2.1: the longest line, its end included.
const MAX_LINE_BYTES: usize = 107;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const FIXED_BYTES: usize = SIGNATURE.len() + 4;

/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// The shortest line.
const SHORTEST_LINE: &[u8] = b"PROXY UNKNOWN\r\n";

const LINE_END: &[u8] = b"\r\n";

/// How far a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// At least so many bytes of it are missing.
    More(usize),
    /// It is whole.
    Done(Introduction),
    /// It will never be one.
    Malformed(&'static str),
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Introduction {
    /// The connection is somebody else's.
    Of(Ends),
    /// The peer speaks for itself (`LOCAL`), or does not know for whom it does (`UNKNOWN`, `UNSPEC`).
    OfPeer,
}

/// Both ends of a connection, as the client sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Where it came from.
    pub(crate) client: SocketAddr,
    /// Where it went.
    pub(crate) local: SocketAddr,
}

/// What `bytes` are, all that was read so far.
pub(crate) fn progress(bytes: &[u8]) -> Progress {
    if bytes.is_empty() {
        return Progress::More(SHORTEST_LINE.len());
    }
    let begins = |word: &[u8]| bytes.iter().zip(word).all(|(byte, wanted)| byte == wanted);
    if begins(SIGNATURE) {
        binary(bytes)
    } else if begins(WORD) {
        line(bytes)
    } else {
        Progress::Malformed("no header")
    }
}

/// Section 2.1.
fn line(bytes: &[u8]) -> Progress {
    if let Some(missing) = SHORTEST_LINE.len().checked_sub(bytes.len()).filter(|missing| *missing > 0) {
        return Progress::More(missing);
    }
    let Some(text) = bytes.strip_suffix(LINE_END) else {
        // While the line may be longer, at least its end is missing.
        let missing = if bytes.ends_with(b"\r") { 1 } else { LINE_END.len() };
        return match bytes.len() + missing {
            ..=MAX_LINE_BYTES => Progress::More(missing),
            _ => Progress::Malformed("a line without an end"),
        };
    };
    if bytes.len() > MAX_LINE_BYTES {
        return Progress::Malformed("a line that is too long");
    }
    // What follows the word is not looked at.
    if text.strip_prefix(b"PROXY UNKNOWN").is_some_and(|rest| matches!(rest.first(), None | Some(b' '))) {
        return Progress::Done(Introduction::OfPeer);
    }
    match std::str::from_utf8(text).ok().and_then(line_ends) {
        Some(ends) => Progress::Done(Introduction::Of(ends)),
        None => Progress::Malformed("no line of the PROXY protocol"),
    }
}

fn line_ends(text: &str) -> Option<Ends> {
    let mut words = text.split(' ');
    let (word, family) = (words.next()?, words.next()?);
    let (from, to) = (words.next()?, words.next()?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    if word != "PROXY" || words.next().is_some() {
        return None;
    }
    let (from, to) = match family {
        "TCP4" => both::<Ipv4Addr>(from, to)?,
        "TCP6" => both::<Ipv6Addr>(from, to)?,
        _ => return None,
    };
    Some(Ends { client: SocketAddr::new(from, from_port), local: SocketAddr::new(to, to_port) })
}

fn both<T: FromStr + Into<IpAddr>>(from: &str, to: &str) -> Option<(IpAddr, IpAddr)> {
    let parse = |text: &str| text.parse::<T>().ok().map(Into::into);
    parse(from).zip(parse(to))
}

/// A decimal number without anything in front of it.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Section 2.2.
fn binary(bytes: &[u8]) -> Progress {
    let fixed = bytes.get(SIGNATURE.len()..FIXED_BYTES);
    let Some(&[command, family, high, low]) = fixed else {
        return Progress::More(FIXED_BYTES.saturating_sub(bytes.len()));
    };
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_BYTES {
        return Progress::Malformed("a header that is too long");
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Progress::Malformed("neither version 2, nor LOCAL or PROXY"),
    };
    // `None` is a family whose addresses say nothing about a client of TCP.
    let address_bytes = match family {
        0x00 => None,
        0x11 => Some(4),
        0x21 => Some(16),
        0x31 | 0x32 => None,
        _ => return Progress::Malformed("an address family that no byte stream has"),
    };
    if address_bytes.is_some_and(|count| !is_local && length < FIXED_BYTES + 2 * (count + 2)) {
        return Progress::Malformed("no room for the addresses");
    }
    if bytes.len() < length {
        return Progress::More(length - bytes.len());
    }
    let rest = bytes.get(FIXED_BYTES..length).unwrap_or_default();
    let ends = match address_bytes {
        Some(4) if !is_local => binary_ends::<4>(rest),
        Some(16) if !is_local => binary_ends::<16>(rest),
        _ => None,
    };
    // Extensions, which follow the addresses, are not looked at.
    Progress::Done(ends.map_or(Introduction::OfPeer, Introduction::Of))
}

fn binary_ends<const N: usize>(bytes: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let (from, rest) = bytes.split_first_chunk::<N>()?;
    let (to, rest) = rest.split_first_chunk::<N>()?;
    let (from_port, rest) = rest.split_first_chunk::<2>()?;
    let (to_port, _) = rest.split_first_chunk::<2>()?;
    let end = |ip: [u8; N], port| SocketAddr::new(ip.into(), u16::from_be_bytes(port));
    Some(Ends { client: end(*from, *from_port), local: end(*to, *to_port) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a header as a connection would, from bytes that come one by one or all at once.
    fn read(bytes: &[u8]) -> (Progress, usize) {
        let mut position = 0;
        loop {
            match progress(&bytes[..position]) {
                Progress::More(count) if position + count <= bytes.len() => {
                    assert!(count > 0);
                    // Whatever comes in smaller pieces leads to the same.
                    for piece in 1..count {
                        let between = progress(&bytes[..position + piece]);
                        assert!(!matches!(between, Progress::Done(_)), "{between:?}");
                    }
                    position += count;
                }
                end => return (end, position),
            }
        }
    }

    fn ends(client: &str, local: &str) -> Progress {
        let (client, local) = (client.parse().expect("valid"), local.parse().expect("valid"));
        Progress::Done(Introduction::Of(Ends { client, local }))
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short");
        [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
    }

    /// The header is understood and not one byte behind it is asked for.
    fn assert_read(header: &[u8], wanted: Progress) {
        for behind in [&b""[..], b"GET / HTTP/1.1\r\n", b"\r\n\r\n\0\r\nQUIT\n"] {
            let bytes = [header, behind].concat();
            assert_eq!(read(&bytes), (wanted, header.len()), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn lines_of_version_1_are_read_to_their_end_and_no_further() {
        assert_read(b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n", ends("192.0.2.1:56324", "192.0.2.9:443"));
        assert_read(b"PROXY TCP4 1.1.1.1 2.2.2.2 0 65535\r\n", ends("1.1.1.1:0", "2.2.2.2:65535"));
        assert_read(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", ends("[2001:db8::1]:1", "[::1]:2"));
        assert_read(b"PROXY UNKNOWN\r\n", Progress::Done(Introduction::OfPeer));
        assert_read(b"PROXY UNKNOWN ff\rff x\r\n", Progress::Done(Introduction::OfPeer));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE_BYTES - 16));
        assert_eq!(longest.len(), MAX_LINE_BYTES);
        assert_read(longest.as_bytes(), Progress::Done(Introduction::OfPeer));
    }

    #[test]
    fn headers_of_version_2_are_read_to_their_end_and_no_further() {
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4];
        assert_read(&version_2(0x21, 0x11, &four), ends("192.0.2.1:258", "192.0.2.2:772"));
        let with_extensions = [&four[..], &[4, 0, 1, 0]].concat();
        assert_read(&version_2(0x21, 0x11, &with_extensions), ends("192.0.2.1:258", "192.0.2.2:772"));
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 3, 4);
        assert_read(&version_2(0x21, 0x21, &six), ends("[::1]:3", "[::2]:4"));
        let of_peer = Progress::Done(Introduction::OfPeer);
        assert_read(&version_2(0x20, 0x00, &[]), of_peer);
        assert_read(&version_2(0x20, 0x11, &four), of_peer);
        assert_read(&version_2(0x20, 0x11, &[]), of_peer);
        assert_read(&version_2(0x21, 0x00, &[9; 40]), of_peer);
        assert_read(&version_2(0x21, 0x31, &[0; 216]), of_peer);
        assert_read(&version_2(0x21, 0x11, &[1; MAX_BYTES - FIXED_BYTES]), ends("1.1.1.1:257", "1.1.1.1:257"));
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_clear() {
        let is_malformed = |bytes: &[u8]| matches!(read(bytes).0, Progress::Malformed(_));
        for text in [
            "GET / HTTP/1.1\r\n",
            "PROXy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY TCP4\t1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2  1\r\n",
        ] {
            assert!(is_malformed(text.as_bytes()), "{text:?}");
        }
        assert!(is_malformed(&[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat()));
        assert!(is_malformed(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 \xff\r\n"));
        assert!(is_malformed(b"\r\n\r\nGET / HTTP/1.1"));
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4];
        for (command, family, rest) in [
            (0x11, 0x11, &four[..]),
            (0x22, 0x11, &four),
            (0x21, 0x12, &four),
            (0x21, 0x41, &four),
            (0x21, 0x11, &four[..11]),
        ] {
            assert!(is_malformed(&version_2(command, family, rest)), "{command:x} {family:x}");
        }
        assert!(is_malformed(&version_2(0x21, 0x21, &four)));
        assert!(is_malformed(&version_2(0x21, 0x11, &[0; MAX_BYTES - FIXED_BYTES + 1])));
        assert_eq!(progress(b"G"), Progress::Malformed("no header"));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600), start in 0..3_usize) {
            let start = [&b""[..], b"PROXY TCP4 1", SIGNATURE][start];
            let (end, position) = read(&[start, &bytes].concat());
            prop_assert!(position <= MAX_BYTES);
            if let Progress::More(count) = end {
                prop_assert!(position + count <= MAX_BYTES);
            }
        }

        #[test]
        fn what_the_edge_writes_it_reads(client: SocketAddr, local: SocketAddr, version in 0..2_usize) {
            use entities::circuit::ProxyProtocol;
            let version = [ProxyProtocol::V1, ProxyProtocol::V2][version];
            let header = crate::tcp::proxy_header(version, client, local);
            let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
            let (client, local) = (canonical(client), canonical(local));
            let wanted = if client.is_ipv4() == local.is_ipv4() {
                Introduction::Of(Ends { client, local })
            } else {
                Introduction::OfPeer
            };
            prop_assert_eq!(read(&header), (Progress::Done(wanted), header.len()));
        }
    }
}
