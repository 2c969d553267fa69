//! Whom a request is from that a trusted proxy has forwarded: `X-Forwarded-For`, `Forwarded` (RFC 7239).
//!
//! Each proxy writes behind what it received, so both fields are read from their end: the right-most hop that is not
//! trusted itself is the client, and whatever stands before it is hearsay. A hop that says nothing that can be understood
//! ends the walk; the client is then the last one that was understood, and somebody is hidden behind it.
//!
//! A proxy that writes one of the fields passes the other one on as it came from the client. Which one that is cannot be seen,
//! so if both are there they must name the same client.
//!
//! Invariant: nothing to the left of the first untrusted hop has any effect, however it is quoted; work is bounded by the
//! length of the fields, and at most [`MAX_HOPS`] of them are looked at.

use std::net::{IpAddr, SocketAddr};

use entities::authority::Scheme;
use entities::host::split_host_header;
use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Proxies in a row: more than any installation has.
const MAX_HOPS: usize = 32;

/// The fields that say where a request comes from.
pub(crate) const ORIGIN_FIELDS: [HeaderName; 5] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// Where a request comes from and how it was sent there, as trusted proxies tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The client, or the last hop that is known.
    pub(crate) ip: IpAddr,
    /// Whether somebody is behind that hop of whom nothing is known.
    pub(crate) is_hidden: bool,
    /// The scheme that the client used.
    pub(crate) scheme: Option<Scheme>,
    /// The host that the client asked for.
    pub(crate) host: Option<HeaderValue>,
    /// The port that the client connected to.
    pub(crate) port: Option<u16>,
}

/// `X-Forwarded-For` and `Forwarded` name different clients, and the one who wrote which cannot be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("X-Forwarded-For and Forwarded name different clients")]
pub(crate) struct Ambiguous;

/// Where a walk over the hops ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    ip: IpAddr,
    is_hidden: bool,
    /// Which hop that is, from the right.
    hop: Option<usize>,
}

/// The origin of a request with these `fields` that came from the trusted proxy `peer`.
pub(crate) fn origin(
    peer: IpAddr,
    fields: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Result<Origin, Ambiguous> {
    let listed = fields.contains_key("x-forwarded-for").then(|| {
        let lines = fields.get_all("x-forwarded-for").iter().rev();
        walk(peer, lines.flat_map(|line| Parts::of(line.as_bytes(), b',')).map(node), &is_trusted)
    });
    let mut elements = Vec::new();
    let described = fields.contains_key(FORWARDED).then(|| {
        let lines = fields.get_all(FORWARDED).iter().rev();
        elements.extend(lines.flat_map(|line| Parts::of(line.as_bytes(), b',')).take(MAX_HOPS + 1).map(Element::of));
        walk(peer, elements.iter().map(|element| element.node.and_then(node)), &is_trusted)
    });
    if let (Some(listed), Some(described)) = (listed, described)
        && (listed.ip, listed.is_hidden) != (described.ip, described.is_hidden)
    {
        return Err(Ambiguous);
    }
    let End { ip, is_hidden, hop } = listed.or(described).unwrap_or(End { ip: peer, is_hidden: false, hop: None });
    let origin = Origin { ip, is_hidden, scheme: None, host: None, port: None };
    if listed.is_none() && described.is_some() {
        // Who describes the hops describes how they were reached, too.
        let element = hop.and_then(|hop| elements.get(hop));
        return Ok(Origin {
            scheme: element.and_then(|element| element.scheme.and_then(scheme)),
            host: element.and_then(|element| element.host.and_then(host)),
            ..origin
        });
    }
    let last = |name| {
        let line = fields.get_all(name).iter().next_back()?;
        line.as_bytes().rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
    };
    Ok(Origin {
        scheme: last("x-forwarded-proto").and_then(scheme),
        host: last("x-forwarded-host").and_then(host),
        port: last("x-forwarded-port").and_then(port),
        ..origin
    })
}

/// Goes from the right from hop to hop for as long as they are trusted.
fn walk(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, is_trusted: impl Fn(IpAddr) -> bool) -> End {
    let mut end = End { ip: peer, is_hidden: false, hop: None };
    for (index, hop) in hops.enumerate() {
        match hop {
            Some(ip) if index < MAX_HOPS => {
                end = End { ip, is_hidden: false, hop: Some(index) };
                if !is_trusted(ip) {
                    break;
                }
            }
            _ => {
                end.is_hidden = true;
                break;
            }
        }
    }
    end
}

/// An address, perhaps with a port; nothing for `unknown`, for names that hide one (RFC 7239 §6.3), and for the rest.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let ip = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
                return None;
            }
            IpAddr::V6(ip.parse().ok()?)
        }
        None => match text.split_once(':') {
            Some((ip, port)) if !port.contains(':') => IpAddr::V4(ip.parse().ok().filter(|_| is_port(port))?),
            _ => text.parse::<IpAddr>().ok().or_else(|| text.parse().ok().map(|at: SocketAddr| at.ip()))?,
        },
    };
    Some(ip.to_canonical())
}

/// Digits, or a name that hides them (RFC 7239 §6.2).
fn is_port(text: &str) -> bool {
    let is_hidden = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    port(text.as_bytes()).is_some() || text.strip_prefix('_').is_some_and(is_hidden)
}

fn port(text: &[u8]) -> Option<u16> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn scheme(text: &[u8]) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
}

fn host(text: &[u8]) -> Option<HeaderValue> {
    std::str::from_utf8(text).ok().and_then(split_host_header)?;
    HeaderValue::from_bytes(text).ok()
}

/// The parts of a list, from its end; those in quotes hold together and empty ones do not count.
struct Parts<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

// === impl Parts ===

impl<'a> Parts<'a> {
    fn of(list: &'a [u8], separator: u8) -> Self {
        Self { rest: Some(list), separator }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let rest = self.rest.take()?;
            let mut is_quoted = false;
            let at = rest.iter().rposition(|byte| {
                is_quoted ^= *byte == b'"';
                *byte == self.separator && !is_quoted
            });
            let part = match at {
                Some(at) => {
                    self.rest = rest.get(..at);
                    rest.get(at + 1..).unwrap_or_default()
                }
                None => rest,
            };
            if !part.trim_ascii().is_empty() {
                return Some(part.trim_ascii());
            }
        }
    }
}

/// One hop of `Forwarded`.
#[derive(Debug, Default)]
struct Element<'a> {
    node: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
}

// === impl Element ===

impl<'a> Element<'a> {
    /// An element that repeats a parameter, or in which something is no parameter, says nothing (RFC 7239 §4).
    fn of(text: &'a [u8]) -> Self {
        let mut element = Self::default();
        for pair in Parts::of(text, b';') {
            let Some((name, value)) =
                pair.iter().position(|byte| *byte == b'=').and_then(|at| pair.split_at_checked(at))
            else {
                return Self::default();
            };
            let Some(value) = value.get(1..).and_then(unquoted) else { return Self::default() };
            let place = match name.to_ascii_lowercase().as_slice() {
                b"for" => &mut element.node,
                b"proto" => &mut element.scheme,
                b"host" => &mut element.host,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Self::default();
            }
        }
        element
    }
}

/// The value without its quotes; nothing if they do not match, or with an escape, which no address and no host needs.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let inner = match value.strip_prefix(b"\"") {
        Some(rest) => rest.strip_suffix(b"\"")?,
        None => value,
    };
    (!inner.iter().any(|byte| matches!(byte, b'"' | b'\\'))).then_some(inner)
}

#[cfg(test)]
mod tests;
