//! Makes a target's answer one that this hop may pass on (RFC 9110 §7.6.1).
//!
//! Invariant: fields of the hop between edge and target end here; a `101` passes untouched.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::EdgeProxy;
use super::context::RequestContext;

// === impl EdgeProxy ===

impl EdgeProxy {
    /// Edits the head of an answer on its way to the client.
    pub(super) fn edit_response(&self, session: &mut Session, response: &mut ResponseHeader, context: &RequestContext) {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            self.metrics.upgrades.inc();
            return;
        }
        for name in nominated(&response.headers) {
            response.remove_header(&name);
        }
        response.remove_header("keep-alive");
        response.remove_header("proxy-connection");
        if context.connection.as_ref().is_some_and(|busy| busy.connection.is_ending()) {
            // The client hears it instead of finding out.
            session.set_keepalive(None);
        }
    }
}

/// The fields that `Connection` names, but for those that frame the answer: pingora has read those already.
fn nominated(headers: &HeaderMap<HeaderValue>) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let tokens = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // What nearly every answer says needs no allocation.
        let is_option = |token: &&[u8]| {
            token.is_empty() || token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close")
        };
        let fields = tokens.filter(|token| !is_option(token)).filter_map(|token| HeaderName::from_bytes(token).ok());
        names
            .extend(fields.filter(|name| *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != CONNECTION));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nominated_fields_are_found_in_every_line_and_framing_is_not() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("close, X-Hop , "));
        headers.append(CONNECTION, HeaderValue::from_static("content-length,x-other, bad name"));
        assert_eq!(nominated(&headers), ["x-hop", "x-other"]);
    }
}
