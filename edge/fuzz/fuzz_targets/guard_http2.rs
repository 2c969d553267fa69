//! Decoded heads of HTTP/2. An input is one field a line, pseudo-header fields among them, as in `tests/corpus/http2.txt`.
//!
//! Invariant: what passes can be written as a head of HTTP/1.1 that passes, too.

#![no_main]

use edge::guard::{MAX_FIELDS, Rule, judge_http1, judge_http2};
use http::header::HOST;
use http::request::{Builder, Parts};
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;

/// The file itself: with the crate, pingora and OpenSSL would have to be built with instrumentation.
#[path = "../../src"]
#[allow(dead_code, unused_imports, reason = "the guard of HTTP/1 has a target of its own")]
mod edge {
    pub(crate) mod guard;
}

fuzz_target!(|bytes: &[u8]| {
    let Some(head) = head(bytes) else { return };
    match judge_http2(&head) {
        Ok(()) => accepted(&head),
        Err(rule) => assert!((400..=505).contains(&rule.status()), "{rule}"),
    }
});

/// A head as the h2 crate makes it of such fields.
fn head(bytes: &[u8]) -> Option<Parts> {
    let mut pseudo = [("method", None), ("scheme", None), ("authority", None), ("path", None)];
    let mut fields = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let at = line.get(1..)?.iter().position(|byte| *byte == b':')? + 1;
        let (name, value) = (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or_default());
        match name.strip_prefix(b":") {
            Some(name) => {
                let (_, place) = pseudo.iter_mut().find(|(known, _)| known.as_bytes() == name)?;
                *place = Some(value);
            }
            None => fields.push((HeaderName::from_lowercase(name).ok()?, HeaderValue::from_bytes(value).ok()?)),
        }
    }
    let [(_, method), (_, scheme), (_, authority), (_, path)] = pseudo;
    let mut uri = http::Uri::builder();
    if let (Some(scheme), Some(_)) = (scheme, authority) {
        uri = uri.scheme(scheme);
    }
    if let Some(authority) = authority {
        uri = uri.authority(authority);
    }
    if let Some(path) = path {
        uri = uri.path_and_query(path);
    }
    let request: Builder = Request::builder().method(method?).uri(uri.build().ok()?);
    let mut parts = request.body(()).ok()?.into_parts().0;
    for (name, value) in fields {
        parts.headers.try_append(name, value).ok()?;
    }
    Some(parts)
}

fn accepted(head: &Parts) {
    let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    assert!(head.headers.len() <= MAX_FIELDS);
    let mut written = format!("{} {path} HTTP/1.1\r\nhost: ", head.method).into_bytes();
    written.extend_from_slice(authority.or(host).expect("a host"));
    for (name, value) in head.headers.iter().filter(|(name, _)| **name != HOST) {
        written.extend_from_slice(format!("\r\n{name}: ").as_bytes());
        written.extend_from_slice(value.as_bytes());
    }
    written.extend_from_slice(b"\r\n\r\n");
    let judged = judge_http1(&written);
    // HTTP/2 has its own limit of the whole, and a host that is in the authority is no field there.
    let is_too_much = matches!(judged, Err(Rule::HeadLength | Rule::FieldCount));
    assert!(judged.is_ok() || is_too_much, "{judged:?}: {}", written.escape_ascii());
    assert!(!judged.is_ok_and(|judged| judged.is_bare_upgrade));
}
