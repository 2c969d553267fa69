//! The head of a request: parsed once, shown to those who decide, and written for the target in one pass.
//!
//! Invariant: what a client claims about its origin never reaches a target, nor does anything that is for this hop alone, nor
//! any credential of the edge's own. Names keep their case, and fields their order.

use std::borrow::Cow;
use std::io::Write as _;
use std::mem::MaybeUninit;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::fields::{ConnectionOptions, Kind, kind_of, write};
use super::framing::Framing;
use crate::access::{is_own_bearer, is_own_cookie, is_ticket_referer};
use crate::circuit::LiveCircuit;
use crate::decide::RequestContext;
use crate::guard::MAX_FIELDS;
use crate::head::{RequestView, origin_form};

/// Room for the fields of a head.
pub(super) type FieldRoom<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_FIELDS];

/// No field yet.
pub(super) const fn room<'b>() -> FieldRoom<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// A head that was parsed.
pub(super) struct ParsedRequest<'h, 'b> {
    method: Method,
    target: &'b str,
    version: Version,
    fields: &'h [httparse::Header<'b>],
    options: ConnectionOptions<'b>,
}

/// What of a request outlives its head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Whether the answer has no content whatever its head says.
    pub(super) is_head: bool,
    pub(super) is_http_11: bool,
    /// Whether the client's connection may bring another request.
    pub(super) keeps: bool,
    pub(super) is_idempotent: bool,
    /// How its content is framed.
    pub(super) content: Framing,
    pub(super) wants_html: bool,
    /// Whether the client takes trailers (RFC 9110 §10.1.4).
    pub(super) takes_trailers: bool,
}

// === impl ParsedRequest ===

impl<'h, 'b> ParsedRequest<'h, 'b> {
    /// Parses `head`, which the guard has judged; nothing if it is none that this engine understands.
    pub(super) fn of(head: &'b [u8], room: &'h mut FieldRoom<'b>) -> Option<Self> {
        let mut request = httparse::Request::new(&mut []);
        if !request.parse_with_uninit_headers(head, room).ok()?.is_complete() {
            return None;
        }
        let method = Method::from_bytes(request.method?.as_bytes()).ok()?;
        let version = if request.version? == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
        let target = request.path?;
        let target = origin_form(target.as_bytes()).map_or(Some(target), |path| std::str::from_utf8(path).ok())?;
        let fields: &'h [httparse::Header<'b>] = request.headers;
        Some(Self { method, target, version, options: ConnectionOptions::of(fields)?, fields })
    }

    /// What outlives the head.
    pub(super) fn asked(&self) -> Option<Asked> {
        let is_http_11 = self.version == Version::HTTP_11;
        let mut content = Framing::None;
        for field in self.fields {
            match kind_of(field.name.as_bytes()) {
                Kind::ContentLength => content = Framing::length(std::str::from_utf8(field.value).ok()?.parse().ok()?),
                Kind::TransferEncoding => content = Framing::Chunked,
                _ => {}
            }
        }
        let lists = |name: &HeaderName, word: &[u8]| {
            self.values(name).any(|value| value.split(|byte| *byte == b',').any(|part| part.trim_ascii() == word))
        };
        Some(Asked {
            is_head: self.method == Method::HEAD,
            is_http_11,
            keeps: !self.options.is_close && (is_http_11 || self.options.is_keep_alive),
            is_idempotent: self.method.is_idempotent(),
            content,
            wants_html: crate::reply::wants_html(self.value(&http::header::ACCEPT)),
            takes_trailers: is_http_11 && lists(&http::header::TE, b"trailers"),
        })
    }

    /// Writes the head that the target gets.
    pub(super) fn write_for_target(
        &self,
        context: &RequestContext,
        circuit: &LiveCircuit,
        asked: &Asked,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let edits = circuit.edits.as_deref().map(|edits| &edits.request);
        let is_edited = |name: &[u8]| edits.is_some_and(|edits| edits.touches(name));
        let forwards_token = context.forwards_token();
        for field in self.fields {
            let name = field.name.as_bytes();
            match kind_of(name) {
                Kind::Hop
                | Kind::Claim
                | Kind::Connection
                | Kind::OwnToken
                | Kind::RequestId
                | Kind::Te
                | Kind::Trailer => {
                    continue;
                }
                // Written from what was understood.
                Kind::TransferEncoding | Kind::ContentLength => continue,
                Kind::Manager if context.told.is_none() => continue,
                Kind::Authorization if !forwards_token && is_own_bearer(field.value) => continue,
                Kind::Referer if is_ticket_referer(field.value) => continue,
                Kind::Cookie if field.value.split(|byte| *byte == b';').any(is_own_cookie) => {
                    if !is_edited(name) && !self.options.names(name) {
                        write_foreign_cookies(out, name, field.value);
                    }
                    continue;
                }
                _ => {}
            }
            if !is_edited(name) && !self.options.names(name) {
                write(out, name, field.value);
            }
        }
        let mut own = |name: &str, value: &[u8]| {
            if !is_edited(name.as_bytes()) {
                write(out, name.as_bytes(), value);
            }
        };
        own("X-Request-Id", context.id().value().as_bytes());
        own("X-Forwarded-For", context.client.ip_value.as_bytes());
        own("X-Forwarded-Proto", context.scheme().as_str().as_bytes());
        match context.forwarded_port() {
            Some(port) => own("X-Forwarded-Port", HeaderValue::from(port).as_bytes()),
            None => own("X-Forwarded-Port", circuit.public_port.as_bytes()),
        }
        if let Some(host) = context.host() {
            own("X-Forwarded-Host", host.as_bytes());
        }
        own("Forwarded", context.forwarded().as_bytes());
        own("Via", if asked.is_http_11 { b"1.1 appproxy" } else { b"1.0 appproxy" });
        match asked.content {
            Framing::Length(length) => {
                // Writing to memory does not fail.
                let _ = write!(out, "Content-Length: {length}\r\n");
            }
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::None if self.has(&http::header::CONTENT_LENGTH) => out.extend_from_slice(b"Content-Length: 0\r\n"),
            Framing::None | Framing::UntilClose => {}
        }
        for (name, value) in edits.map(|edits| &edits.set[..]).unwrap_or_default() {
            write(out, name.as_str().as_bytes(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl RequestView for ParsedRequest<'_, '_> {
    fn method(&self) -> &Method {
        &self.method
    }

    fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    fn version(&self) -> Version {
        self.version
    }

    fn authority(&self) -> Option<&str> {
        None
    }

    fn values<'a>(&'a self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let name = name.clone();
        let fields = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name.as_str()));
        fields.map(|field| field.value)
    }

    fn map_of(&self, names: &[HeaderName]) -> Cow<'_, HeaderMap> {
        let mut map = HeaderMap::new();
        for name in names {
            for value in self.values(name).filter_map(|value| HeaderValue::from_bytes(value).ok()) {
                map.append(name, value);
            }
        }
        Cow::Owned(map)
    }
}

/// Writes a `Cookie` without the cookies of the edge's own.
fn write_foreign_cookies(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let before = out.len();
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    let start = out.len();
    for pair in value.split(|byte| *byte == b';').filter(|pair| !is_own_cookie(pair)) {
        let pair = if out.len() == start { pair.trim_ascii_start() } else { pair };
        if pair.trim_ascii().is_empty() {
            continue;
        }
        if out.len() > start {
            out.push(b';');
        }
        out.extend_from_slice(pair);
    }
    if out.len() == start {
        out.truncate(before);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}
