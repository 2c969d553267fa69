//! What goes wrong, in the words of the API: as JSON for programs, as a page for persons, as a status of gRPC.
//!
//! Invariant: no answer names a target.

use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use super::answer::Reply;
use crate::guard::Rule;
use crate::request_id::RequestId;

/// When to ask again for an application that is starting.
const STARTING_RETRY_S: u16 = 2;

/// When to ask again after there was no memory: some intervals of looking at it, so that a change is seen by then.
const OVERLOADED_RETRY_S: u16 = 5;

/// When to ask again where too much is open already.
const FULL_RETRY_S: u16 = 5;

/// What programs match on. The words are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The request names no host that HTTP/1.1 allows.
    BadRequest,
    /// The content of the request is not framed as HTTP asks.
    BadContent,
    /// Fields of proxies in front of the edge name different clients.
    AmbiguousClient,
    /// A query parameter does not parse.
    InvalidQuery,
    /// The worker key is missing or wrong.
    Unauthorized,
    /// What was asked over plain HTTP is answered over TLS only.
    TlsRequired,
    /// The client's address may not read this.
    AddressNotAllowed,
    /// Nothing is served at this address.
    UnknownAddress,
    /// The circuit is private, and nothing was shown that opens it.
    CredentialRequired,
    /// The circuit is private, and what was shown does not open it.
    CredentialRejected,
    /// A ticket is malformed, expired, or of another circuit.
    TicketRejected,
    /// Another site made the browser send the request.
    CrossOrigin,
    /// The circuit does not allow the client's address.
    ClientNotAllowed,
    /// Only reading is possible here.
    MethodNotAllowed,
    /// The edge failed.
    Internal,
    /// The circuit's targets cannot be reached or broke off.
    TargetUnreachable,
    /// The circuit has no target at the moment.
    NoTarget,
    /// The circuit's target has never answered and takes no connections yet.
    Starting,
    /// The registry has not confirmed the circuit for too long.
    Unconfirmed,
    /// The target did not answer in time.
    TargetTimeout,
    /// The edge has no memory for another connection.
    Overloaded,
    /// The circuit takes no more requests at this rate.
    TooManyRequests {
        /// When it takes the next one.
        retry_after_s: u32,
    },
    /// The head of the request breaks this rule.
    Malformed(Rule),
    /// The head did not come in time.
    HeadTimeout,
    /// The content did not come in time.
    BodyTimeout,
    /// The client has too many connections already.
    ClientConnections,
    /// The circuit has too much open already.
    CircuitConnections,
    /// The client does not take its answer.
    WriteTimeout,
    /// The connection has as many streams open as it may have.
    TooManyStreams,
    /// The client breaks the rules of HTTP/2, or tires the edge with what they allow.
    Http2Abuse,
    /// The proxy in front did not introduce the connection.
    ProxyProtocol,
    /// The connection could not be secured.
    Handshake,
}

// === impl Problem ===

impl Problem {
    /// Status, code, title and what a person is told.
    fn parts(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::BadRequest => {
                (StatusCode::BAD_REQUEST, "bad_request", "Bad Request", "The request has no valid Host field.")
            }
            Self::BadContent => {
                (StatusCode::BAD_REQUEST, "bad_request", "Bad Request", "The content of the request is malformed.")
            }
            Self::AmbiguousClient => (
                StatusCode::BAD_REQUEST,
                "ambiguous_client",
                "Bad Request",
                "X-Forwarded-For and Forwarded name different clients. A proxy that sets one of them must remove the other.",
            ),
            Self::InvalidQuery => (
                StatusCode::BAD_REQUEST,
                "invalid_query",
                "Bad Request",
                "epoch is a UUID, revision and timeout_ms are numbers; epoch and revision go together.",
            ),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", "The worker key is missing or wrong.")
            }
            Self::TlsRequired => {
                (StatusCode::FORBIDDEN, "tls_required", "Forbidden", "This is answered over TLS only.")
            }
            Self::AddressNotAllowed => (
                StatusCode::FORBIDDEN,
                "address_not_allowed",
                "Forbidden",
                "This may be read from the addresses in api_allowed only.",
            ),
            Self::UnknownAddress => (
                StatusCode::NOT_FOUND,
                "unknown_address",
                "No such application",
                "No application is served at this address. It may have ended, or the address may be mistyped.",
            ),
            Self::CredentialRequired => (
                StatusCode::UNAUTHORIZED,
                "credential_required",
                "This application is private",
                "Open it from the page where you started it. Programs send Authorization: Bearer with a token of this \
                 application.",
            ),
            Self::CredentialRejected => (
                StatusCode::UNAUTHORIZED,
                "credential_rejected",
                "Your access has ended",
                "What your browser or program shows does not open this application, or not any more. Open it again from \
                 the page where you started it, or get a new token.",
            ),
            Self::TicketRejected => (
                StatusCode::UNAUTHORIZED,
                "ticket_rejected",
                "This link has expired",
                "A link like this works for a minute and for one application. Open the application again from the page \
                 where you started it.",
            ),
            Self::CrossOrigin => (
                StatusCode::FORBIDDEN,
                "cross_origin",
                "Another site asked for this",
                "A page of another site tried to use this application in your name. If you wanted that, its owner has to \
                 allow the site.",
            ),
            Self::ClientNotAllowed => (
                StatusCode::FORBIDDEN,
                "client_not_allowed",
                "Not from here",
                "This application may not be used from your address. Its owner can say from where it may be.",
            ),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method Not Allowed", "Use GET or HEAD.")
            }
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal Server Error",
                "The edge failed to handle the request; its log says why.",
            ),
            Self::TargetUnreachable => (
                StatusCode::BAD_GATEWAY,
                "target_unreachable",
                "Application not reachable",
                "The application does not answer. It may still be starting, or it may have stopped.",
            ),
            Self::NoTarget => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_target",
                "Application not ready",
                "The application has no running instance at the moment.",
            ),
            Self::Starting => (
                StatusCode::SERVICE_UNAVAILABLE,
                "starting",
                "The application is starting",
                "It does not take requests yet. This page asks again by itself.",
            ),
            Self::Unconfirmed => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unconfirmed",
                "Application not confirmed",
                "The proxy has not heard for a long time whether this address is still right. Try again later.",
            ),
            Self::TargetTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "target_timeout",
                "Application too slow",
                "The application did not answer in time.",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "Too many connections",
                "The proxy has no room for another connection at the moment. Try again a little later.",
            ),
            Self::TooManyRequests { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "Too many requests",
                "The application takes requests at a limited rate. Try again a little later.",
            ),
            Self::Malformed(rule) => of_rule(rule),
            Self::HeadTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "head_timeout",
                "Request Timeout",
                "The head of the request did not come in time.",
            ),
            Self::BodyTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                "Request Timeout",
                "The content of the request did not come in time.",
            ),
            Self::ClientConnections => (
                StatusCode::TOO_MANY_REQUESTS,
                "client_connections",
                "Too many connections",
                "Too many connections are open from this address. Close some, or try again later.",
            ),
            Self::CircuitConnections => (
                StatusCode::SERVICE_UNAVAILABLE,
                "circuit_connections",
                "Application too busy",
                "The application has as many requests and connections open as it may have. Try again later.",
            ),
            Self::WriteTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "write_timeout",
                "Request Timeout",
                "The client did not take the answer in time.",
            ),
            Self::TooManyStreams => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_streams",
                "Too many streams",
                "The connection has as many streams open as it may have. Try again when one has ended.",
            ),
            Self::Http2Abuse => (
                StatusCode::TOO_MANY_REQUESTS,
                "http2_abuse",
                "Too Many Requests",
                "The connection brings more than it may that cannot be served.",
            ),
            Self::ProxyProtocol => (
                StatusCode::BAD_REQUEST,
                "proxy_protocol",
                "Bad Request",
                "The connection must begin with a header of the PROXY protocol.",
            ),
            Self::Handshake => {
                (StatusCode::BAD_REQUEST, "handshake", "Bad Request", "The connection could not be secured.")
            }
        }
    }

    /// Its status.
    pub(crate) fn status(self) -> StatusCode {
        self.parts().0
    }

    /// The word that programs match on.
    pub(crate) fn code(self) -> &'static str {
        self.parts().1
    }

    /// The answer to the request `id` as a page for people, or as `application/problem+json` (RFC 9457).
    pub(crate) fn reply(self, wants_html: bool, id: &RequestId) -> Reply {
        let (status, code, title, detail) = self.parts();
        let (content_type, body) = if wants_html {
            ("text/html; charset=utf-8", page(status, title, detail, self.refreshes_after_s(), id))
        } else {
            let problem = serde_json::json!({
                "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail, "code": code,
                "request_id": id.to_string(),
            });
            ("application/problem+json", problem.to_string())
        };
        let field = match self {
            Self::NoTarget => Some((RETRY_AFTER, HeaderValue::from_static("1"))),
            Self::Starting => Some((RETRY_AFTER, HeaderValue::from(STARTING_RETRY_S))),
            Self::Overloaded => Some((RETRY_AFTER, HeaderValue::from(OVERLOADED_RETRY_S))),
            Self::TooManyRequests { retry_after_s } => Some((RETRY_AFTER, HeaderValue::from(retry_after_s))),
            Self::Unconfirmed => Some((RETRY_AFTER, HeaderValue::from_static("30"))),
            Self::ClientConnections | Self::CircuitConnections => Some((RETRY_AFTER, HeaderValue::from(FULL_RETRY_S))),
            Self::MethodNotAllowed => Some((ALLOW, HeaderValue::from_static("GET, HEAD"))),
            Self::Unauthorized | Self::CredentialRequired => {
                Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            // RFC 6750 §3.1.
            Self::CredentialRejected => {
                Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\"")))
            }
            _ => None,
        };
        // A client that breaks rules may go on in a way that would be read as a request.
        let must_close = matches!(
            self,
            Self::BadRequest
                | Self::BadContent
                | Self::Malformed(_)
                | Self::HeadTimeout
                | Self::BodyTimeout
                | Self::ClientConnections
        );
        Reply { status, content_type, body: body.into(), fields: field.into_iter().collect(), must_close }
    }

    /// After how many seconds a page asks again by itself.
    fn refreshes_after_s(self) -> Option<u16> {
        matches!(self, Self::Starting | Self::NoTarget).then_some(STARTING_RETRY_S)
    }

    /// The answer as `grpc-status` and `grpc-message`, by gRPC's table for statuses of HTTP but for two: what took too
    /// long is `DEADLINE_EXCEEDED` and not `UNAVAILABLE`, because it may have been done; and what is over a rate is
    /// `RESOURCE_EXHAUSTED`, which clients do not try again at once.
    pub(crate) fn grpc(self) -> (u16, &'static str) {
        let (status, _, _, detail) = self.parts();
        let code = match status {
            StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => 13,
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            StatusCode::NOT_FOUND => 12,
            StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::URI_TOO_LONG
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            | StatusCode::EXPECTATION_FAILED
            | StatusCode::NOT_IMPLEMENTED => 13,
            StatusCode::TOO_MANY_REQUESTS => 8,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => 4,
            _ => 2,
        };
        (code, detail)
    }
}

/// Status, code, title and what a person is told about a rule.
fn of_rule(rule: Rule) -> (StatusCode, &'static str, &'static str, &'static str) {
    let (status, code, title) = match rule.status() {
        413 => (StatusCode::PAYLOAD_TOO_LARGE, "content_too_large", "Content Too Large"),
        414 => (StatusCode::URI_TOO_LONG, "uri_too_long", "URI Too Long"),
        417 => (StatusCode::EXPECTATION_FAILED, "expectation_failed", "Expectation Failed"),
        431 => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "Request Header Fields Too Large"),
        501 => (StatusCode::NOT_IMPLEMENTED, "not_implemented", "Not Implemented"),
        505 => (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version_not_supported", "HTTP Version Not Supported"),
        _ => (StatusCode::BAD_REQUEST, "bad_request", "Bad Request"),
    };
    (status, code, title, rule.detail())
}

fn page(status: StatusCode, title: &str, detail: &str, refreshes_after_s: Option<u16>, id: &RequestId) -> String {
    let id = id.to_string();
    // The only text that does not come from this program.
    let id: String = id.chars().filter(|letter| !"<>&\"'".contains(*letter)).collect();
    let code = status.as_u16();
    let refresh = refreshes_after_s
        .map_or_else(String::new, |seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         {refresh}<meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;margin:20vh auto 0;max-width:32rem;padding:0 1rem;color:#222}}\
         h1{{font-size:1.4rem}}p{{color:#555}}small{{color:#888}}</style></head>\
         <body><h1>{title}</h1><p>{detail}</p><small>{code} · request {id}</small></body></html>\n"
    )
}
