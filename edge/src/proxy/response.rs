//! Makes a target's answer one that this hop may pass on (RFC 9110 §7.6.1).
//!
//! Invariant: fields of the hop between edge and target end here. The head of a `101` never comes here: it passes
//! untouched.

use entities::circuit::Backend;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, SET_COOKIE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::EdgeProxy;
use crate::access::is_own_cookie;
use crate::circuit::{Edits, LiveCircuit};
use crate::decide::RequestContext;
use crate::request_id::REQUEST_ID;

// === impl EdgeProxy ===

impl EdgeProxy {
    /// Edits the head of an answer on its way to the client.
    pub(super) fn edit_response(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut RequestContext,
    ) {
        for name in nominated(&response.headers) {
            response.remove_header(&name);
        }
        response.remove_header("keep-alive");
        response.remove_header("proxy-connection");
        remove_own_cookies(response);
        if !response.status.is_informational() {
            // An answer that is cut later has no phase in which pingora could be asked what was written.
            context.recording.status = Some(response.status.as_u16());
            // The name and the value are valid already.
            let _ = response.insert_header(REQUEST_ID, context.id().value());
        }
        let circuit = context.circuit();
        if circuit.is_some_and(|circuit| circuit.backend == Backend::Http) {
            // Pingora drops the trailers of HTTP/1.1 (RFC 9110 §6.5.1 lets it), so nothing may announce them.
            response.remove_header(&TRAILER);
        }
        if let Some(edits) = circuit.and_then(|circuit| circuit.edits.as_deref())
            && !response.status.is_informational()
        {
            let Edits { remove, set } = &edits.response;
            for name in remove {
                response.remove_header(name);
            }
            for (name, value) in set {
                // The name and the value are valid already.
                let _ = response.insert_header(name.clone(), value.clone());
            }
        }
        if let Some(circuit) = circuit
            && !response.status.is_informational()
        {
            keep_with_target(response, circuit, context);
        }
        if context.connection().is_ending() || self.decider.shared.memory.is_tight() {
            // The client hears it instead of finding out.
            session.set_keepalive(None);
        }
    }
}

/// Takes out cookies with names of the edge's own: no application sets, or takes away, what opens another one.
fn remove_own_cookies(response: &mut ResponseHeader) {
    let is_own = |field: &HeaderValue| is_own_cookie(field.as_bytes());
    if !response.headers.get_all(SET_COOKIE).iter().any(is_own) {
        return;
    }
    let kept: Vec<HeaderValue> =
        response.headers.get_all(SET_COOKIE).iter().filter(|field| !is_own(field)).cloned().collect();
    response.remove_header(&SET_COOKIE);
    for field in kept {
        // The value is valid already.
        let _ = response.append_header(SET_COOKIE, field);
    }
}

/// Tells the client to come back to the target that has answered, unless it says so itself.
fn keep_with_target(response: &mut ResponseHeader, circuit: &LiveCircuit, context: &RequestContext) {
    let Some(stickiness) = circuit.balancer.stickiness() else { return };
    let Some(index) = context.attempts.target().filter(|index| context.attempts.preferred() != Some(*index)) else {
        return;
    };
    if let Some(field) = stickiness.field(index, context.scheme()) {
        // The name and the value are valid already.
        let _ = response.append_header(SET_COOKIE, field);
    }
}

/// The fields that `Connection` names, but for those that frame the answer: pingora has read those already.
pub(super) fn nominated(headers: &HeaderMap<HeaderValue>) -> Vec<HeaderName> {
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
