//! Answers that the edge gives itself.
//!
//! Invariant: no answer names a target, and none may be stored by a cache.

mod answer;
mod problem;

use std::time::Duration;

pub(crate) use answer::Reply;
pub(crate) use problem::Problem;

/// How long an answer of the edge's own may take to be written.
pub(crate) const WRITE_TIME: Duration = Duration::from_secs(1);

/// Whether a client that sent this `Accept` is a person's browser.
pub(crate) fn wants_html(accept: Option<&[u8]>) -> bool {
    accept.is_some_and(|value| value.windows(9).any(|word| word.eq_ignore_ascii_case(b"text/html")))
}

/// Whether a request with this `Content-Type` is a call of gRPC. gRPC-Web, which begins alike, is ordinary HTTP.
pub(crate) fn is_grpc(content_type: Option<&[u8]>) -> bool {
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Rule;
    use crate::request_id::RequestId;

    #[test]
    fn browsers_get_a_page_and_programs_a_problem() {
        assert!(wants_html(Some(b"text/html,application/xhtml+xml;q=0.9")));
        assert!(!wants_html(Some(b"application/json")));
        assert!(!wants_html(None));
        let page = Problem::NoTarget.reply(true, &RequestId::next());
        assert!(page.content_type.starts_with("text/html"));
        let problem: serde_json::Value =
            serde_json::from_slice(&Problem::NoTarget.reply(false, &RequestId::next()).body).expect("JSON");
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["code"], "no_target");
        assert_eq!(problem["type"], "about:blank");
    }

    #[test]
    fn calls_of_grpc_get_a_status_and_a_message_that_needs_no_escape() {
        let codes = [
            (Problem::BadRequest, 13),
            (Problem::AmbiguousClient, 13),
            (Problem::Unauthorized, 16),
            (Problem::AddressNotAllowed, 7),
            (Problem::CredentialRequired, 16),
            (Problem::CredentialRejected, 16),
            (Problem::CrossOrigin, 7),
            (Problem::ClientNotAllowed, 7),
            (Problem::UnknownAddress, 12),
            (Problem::Internal, 13),
            (Problem::TargetUnreachable, 14),
            (Problem::NoTarget, 14),
            (Problem::Starting, 14),
            (Problem::Unconfirmed, 14),
            (Problem::TargetTimeout, 4),
            (Problem::Overloaded, 14),
            (Problem::TooManyRequests { retry_after_s: 1 }, 8),
            (Problem::BodyTimeout, 4),
            (Problem::CircuitConnections, 14),
            (Problem::Malformed(Rule::FieldCount), 13),
        ];
        for (problem, code) in codes {
            let (status, message) = problem.grpc();
            assert_eq!(status, code, "{problem:?}");
            assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%'), "{message}");
        }
    }

    #[test]
    fn every_rule_is_answered_with_its_own_status() {
        for rule in Rule::ALL {
            assert_eq!(
                Problem::Malformed(rule).reply(false, &RequestId::next()).status.as_u16(),
                rule.status(),
                "{rule}"
            );
            assert!(Problem::Malformed(rule).reply(true, &RequestId::next()).must_close);
        }
    }

    #[test]
    fn grpc_is_told_from_what_begins_alike() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(is_grpc(Some(yes.as_bytes())), "{yes}");
        }
        for no in ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp"] {
            assert!(!is_grpc(Some(no.as_bytes())), "{no}");
        }
        assert!(!is_grpc(None));
    }

    #[test]
    fn an_answer_is_whole_and_says_that_it_is_the_last() {
        let id = RequestId::next();
        let reply = Problem::Malformed(Rule::ObsoleteFold).reply(false, &id);
        let text = String::from_utf8(reply.http1(&id, false, false)).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains("\r\nConnection: close") && head.contains(&format!("Content-Length: {}", body.len())));
        assert!(head.contains(&format!("\r\nx-request-id: {id}\r\n")) && body.contains(&id.to_string()), "{text}");
        let retry = Problem::ClientConnections.reply(false, &id).http1(&id, true, false);
        let retry = String::from_utf8(retry).expect("text");
        assert!(retry.contains("retry-after: 5\r\n") && retry.ends_with("\r\n\r\n"), "{retry}");
    }
}
