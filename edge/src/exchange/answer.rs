//! The head of an answer: judged, and written for the client in one pass.
//!
//! Invariant: an answer that two readers could read in two ways is passed on in neither (RFC 9112 §6.3, §11.1); what reaches the
//! client is framed by the edge.

use std::io::Write as _;

use entities::authority::Scheme;
use httparse::ParserConfig;

use super::fields::{ConnectionOptions, Kind, kind_of, write};
use super::framing::Framing;
use super::request::{Asked, FieldRoom};
use crate::access::is_own_cookie;
use crate::circuit::LiveCircuit;
use crate::decide::RequestContext;

/// Why an answer is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed answer: {0}")]
pub(super) struct BadAnswer(&'static str);

/// A head that was judged.
pub(super) struct AnswerHead<'h, 'b> {
    pub(super) status: u16,
    reason: &'b str,
    fields: &'h [httparse::Header<'b>],
    options: ConnectionOptions<'b>,
    /// How its content is framed by the target.
    pub(super) content: Framing,
    /// What `Content-Length` says, whether or not content follows.
    length: Option<u64>,
    /// Whether the target's connection may carry another request.
    pub(super) target_keeps: bool,
}

/// How an answer goes to the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToClient {
    /// How its content is framed by the edge.
    pub(super) content: Framing,
    /// Whether the connection is kept.
    pub(super) keeps: bool,
}

// === impl BadAnswer ===

impl BadAnswer {
    /// Nobody asked for another protocol.
    pub(super) const UNASKED_UPGRADE: Self = Self("a 101 that nobody asked for");
}

// === impl AnswerHead ===

impl<'h, 'b> AnswerHead<'h, 'b> {
    /// Judges a whole head that answers what was `asked`.
    pub(super) fn judge(head: &'b [u8], asked: &Asked, room: &'h mut FieldRoom<'b>) -> Result<Self, BadAnswer> {
        if has_bare_line_feed(head) {
            return Err(BadAnswer("a line that ends without a carriage return"));
        }
        let mut response = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, room);
        if !parsed.map_err(|_| BadAnswer("its head is none of HTTP/1"))?.is_complete() {
            return Err(BadAnswer("its head is not whole"));
        }
        let status = response.code.filter(|status| *status >= 100).ok_or(BadAnswer("a status below 100"))?;
        let is_http_11 = response.version == Some(1);
        let fields: &'h [httparse::Header<'b>] = response.headers;
        let options = ConnectionOptions::of(fields).ok_or(BadAnswer("Connection names too many fields"))?;
        let (length, is_chunked) = framing_fields(fields, is_http_11)?;
        let has_no_content = asked.is_head || matches!(status, 100..=199 | 204 | 304);
        let content = match (has_no_content, is_chunked, length) {
            (true, _, _) => Framing::None,
            (false, true, _) => Framing::Chunked,
            (false, false, Some(length)) => Framing::length(length),
            (false, false, None) => Framing::UntilClose,
        };
        let target_keeps = !options.is_close && (is_http_11 || options.is_keep_alive) && content != Framing::UntilClose;
        let reason = response.reason.unwrap_or_default();
        Ok(Self { status, reason, fields, options, content, length, target_keeps })
    }

    /// Whether another head follows before the content.
    pub(super) fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// How it goes to a client that asked so; `may_keep` says whether the edge keeps the connection.
    pub(super) fn to_client(&self, asked: &Asked, may_keep: bool) -> ToClient {
        let content = match self.content {
            // A client that knows chunks sees by them whether it has everything (RFC 9112 §8).
            Framing::UntilClose | Framing::Chunked if asked.is_http_11 => Framing::Chunked,
            Framing::Chunked => Framing::UntilClose,
            other => other,
        };
        ToClient { content, keeps: may_keep && asked.keeps && content != Framing::UntilClose }
    }

    /// Writes the head that the client gets.
    pub(super) fn write_for_client(
        &self,
        context: &RequestContext,
        circuit: &LiveCircuit,
        asked: &Asked,
        to_client: ToClient,
        out: &mut Vec<u8>,
    ) {
        // Writing to memory does not fail.
        let _ = write!(out, "HTTP/1.1 {} ", self.status);
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        let edits = circuit.edits.as_deref().map(|edits| &edits.response).filter(|_| !self.is_interim());
        let is_edited = |name: &[u8]| edits.is_some_and(|edits| edits.touches(name));
        for field in self.fields {
            let name = field.name.as_bytes();
            match kind_of(name) {
                Kind::Hop | Kind::Connection | Kind::ContentLength | Kind::TransferEncoding => continue,
                Kind::Trailer if !(asked.takes_trailers && self.content == Framing::Chunked) => continue,
                Kind::RequestId if !self.is_interim() => continue,
                Kind::SetCookie if is_own_cookie(field.value) => continue,
                _ => {}
            }
            if !is_edited(name) && !self.options.names(name) {
                write(out, name, field.value);
            }
        }
        if !self.is_interim() {
            self.write_own_fields(context, circuit, asked, to_client, out);
        }
        for (name, value) in edits.map(|edits| &edits.set[..]).unwrap_or_default() {
            write(out, name.as_str().as_bytes(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_own_fields(
        &self,
        context: &RequestContext,
        circuit: &LiveCircuit,
        asked: &Asked,
        to_client: ToClient,
        out: &mut Vec<u8>,
    ) {
        write(out, b"X-Request-Id", context.id().value().as_bytes());
        if let Some(field) = affinity(context, circuit, context.scheme()) {
            write(out, b"Set-Cookie", field.as_bytes());
        }
        match (to_client.content, self.length) {
            (Framing::Chunked, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            // What the answer to GET would have, or has still (RFC 9110 §8.6); a 204 never has any.
            (Framing::Length(_) | Framing::None, Some(length)) if self.status != 204 => {
                let _ = write!(out, "Content-Length: {length}\r\n");
            }
            _ => {}
        }
        if !to_client.keeps {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if !asked.is_http_11 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }
}

/// What keeps the client with the target that has answered, unless it says so itself.
fn affinity(context: &RequestContext, circuit: &LiveCircuit, scheme: Scheme) -> Option<http::HeaderValue> {
    let stickiness = circuit.balancer.stickiness()?;
    let index = context.attempts.target().filter(|index| context.attempts.preferred() != Some(*index))?;
    stickiness.field(index, scheme)
}

/// The length that the fields say, and whether they say chunks. One reading, or none.
fn framing_fields(fields: &[httparse::Header<'_>], is_http_11: bool) -> Result<(Option<u64>, bool), BadAnswer> {
    let (mut length, mut is_chunked) = (None, false);
    for field in fields {
        match kind_of(field.name.as_bytes()) {
            Kind::ContentLength => {
                let digits =
                    std::str::from_utf8(field.value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let value: u64 =
                    digits.and_then(|digits| digits.parse().ok()).ok_or(BadAnswer("Content-Length is no number"))?;
                if length.replace(value).is_some_and(|before| before != value) {
                    return Err(BadAnswer("two lengths"));
                }
            }
            Kind::TransferEncoding => {
                if is_chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(BadAnswer("a transfer coding that is not chunked alone"));
                }
                is_chunked = true;
            }
            _ => {}
        }
    }
    if is_chunked && length.is_some() {
        return Err(BadAnswer("a length and chunks"));
    }
    if is_chunked && !is_http_11 {
        return Err(BadAnswer("chunks in HTTP/1.0"));
    }
    Ok((length, is_chunked))
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|byte| {
        *byte == b'\n' && std::mem::replace(&mut before, *byte) != b'\r' || {
            before = *byte;
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::request::room;

    const ASKED: Asked = Asked {
        is_head: false,
        is_http_11: true,
        keeps: true,
        is_idempotent: true,
        content: Framing::None,
        wants_html: false,
        takes_trailers: false,
    };

    fn framing(head: &str, asked: Asked) -> Result<(Framing, Framing, bool), BadAnswer> {
        let mut room = room();
        let head = AnswerHead::judge(head.as_bytes(), &asked, &mut room)?;
        Ok((head.content, head.to_client(&asked, true).content, head.target_keeps))
    }

    #[test]
    fn content_is_framed_as_the_standard_says() {
        let get = |head| framing(head, ASKED).expect("valid");
        assert_eq!(get("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), (Framing::Length(5), Framing::Length(5), true));
        assert_eq!(get("HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n").0, Framing::Length(5));
        assert_eq!(get("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n").0, Framing::Chunked);
        assert_eq!(get("HTTP/1.1 200 OK\r\n\r\n"), (Framing::UntilClose, Framing::Chunked, false));
        assert_eq!(get("HTTP/1.1 204 No\r\n\r\n"), (Framing::None, Framing::None, true));
        assert_eq!(get("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n").0, Framing::None);
        assert_eq!(get("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), (Framing::None, Framing::None, false));
        assert!(get("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n").2);
        assert!(!get("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").2);
        let head = framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Asked { is_head: true, ..ASKED });
        assert_eq!(head.expect("valid").0, Framing::None);
        let old = Asked { is_http_11: false, ..ASKED };
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framing(chunked, old).expect("valid").1, Framing::UntilClose);
    }

    #[test]
    fn an_answer_with_two_readings_is_passed_on_in_neither() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/1.1 200 OK\nX: a\n\n",
            "HTTP/1.1 200 OK\r\nX: a\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
        ] {
            assert!(framing(head, ASKED).is_err(), "{head:?}");
        }
    }
}
