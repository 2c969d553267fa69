//! Fields in which trusted proxies name the client. The first line of an input is what a client might have written in
//! front of them, each other line is a field.
//!
//! Invariant: the answer is the peer or an address that stands in the fields; what stands to the left of it changes nothing,
//! nor does any field but those of `ORIGIN_FIELDS`.

#![no_main]

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use entities::host::split_host_header;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

use edge::client::forwarded::{Ambiguous, ORIGIN_FIELDS, Origin, origin};

/// The file itself: with the crate, pingora and OpenSSL would have to be built with instrumentation.
#[path = "../../src"]
mod edge {
    pub(crate) mod client {
        pub(crate) mod forwarded;
    }
}

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Hops that may be looked at: 32 of each of the two fields.
const MAX_LOOKS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let hearsay = lines.next().unwrap_or_default();
    let mut fields = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    let mut asked = HeaderMap::new();
    for name in ORIGIN_FIELDS {
        for value in fields.get_all(&name) {
            asked.append(&name, value.clone());
        }
    }
    assert_eq!(judge(&asked), judge(&fields), "another field than those that are said to matter: {fields:?}");
    let Ok(found) = judge(&fields) else { return };
    assert!(found.ip == PEER || stands_in(&fields, found.ip), "{found:?}: {fields:?}");
    assert_eq!(found.ip, found.ip.to_canonical());
    if let Some(host) = &found.host {
        assert!(host.to_str().is_ok_and(|host| split_host_header(host).is_some()), "{host:?}");
    }
    let ends_here = found.is_hidden || !is_trusted(found.ip);
    if ends_here && let Some(longer) = behind(hearsay, &fields) {
        assert_eq!(judge(&longer), Ok(found), "{fields:?} behind {:?}", hearsay.escape_ascii().to_string());
    }
});

fn judge(fields: &HeaderMap) -> Result<Origin, Ambiguous> {
    let looks = Cell::new(0);
    let found = origin(PEER, fields, |ip| {
        looks.set(looks.get() + 1);
        is_trusted(ip)
    });
    assert!(looks.get() <= MAX_LOOKS, "{} hops", looks.get());
    found
}

fn is_trusted(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.octets()[0] == 0xfd,
    }
}

/// Whether an address stands somewhere, with a port or without.
fn stands_in(fields: &HeaderMap, ip: IpAddr) -> bool {
    let is_it = |text: &str| text.parse().is_ok_and(|found: IpAddr| found.to_canonical() == ip);
    let is_delimiter = |byte: u8| byte.is_ascii_whitespace() || b",;=\"[]".contains(&byte);
    fields.values().flat_map(|value| value.as_bytes().split(|byte| is_delimiter(*byte))).any(|word| {
        let Ok(word) = std::str::from_utf8(word) else { return false };
        is_it(word) || word.split_once(':').is_some_and(|(word, _)| is_it(word))
    })
}

/// The fields as they would be if a client had written something into each list before the proxies did.
fn behind(hearsay: &[u8], fields: &HeaderMap) -> Option<HeaderMap> {
    let mut longer = HeaderMap::new();
    for name in fields.keys() {
        let is_list = matches!(name.as_str(), "x-forwarded-for" | "forwarded");
        for (index, value) in fields.get_all(name).iter().enumerate() {
            if is_list && index == 0 {
                longer.append(name, HeaderValue::from_bytes(hearsay).ok()?);
                let value = [hearsay, b",", value.as_bytes()].concat();
                longer.append(name, HeaderValue::from_bytes(&value).ok()?);
            } else {
                longer.append(name, value.clone());
            }
        }
    }
    Some(longer)
}
