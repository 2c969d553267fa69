//! What the edge says no to: one type, built in one way.
//!
//! Invariant: what a client is told decides what is counted and whose fault it was; nobody pairs these by hand. A refusal
//! is counted, logged and answered by the code that ends its [`Record`](crate::record::Record), never here.

use std::borrow::Cow;

use crate::reply::{Problem, Reply};
use crate::words::words;

/// A request, a stream or a connection that is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What the client is told, if its protocol has words for it.
    pub(crate) problem: Problem,
    /// What it is counted as; nothing if it is an ordinary answer.
    pub(crate) reason: Option<Reason>,
    /// What was wrong, for the log; it repeats no secret.
    pub(crate) detail: Cow<'static, str>,
    /// What the client gets in place of the problem: the way to where it can log in.
    pub(crate) instead: Option<Box<Reply>>,
}

words! {
    /// Why something was turned away.
    pub(crate) enum Reason in "reason" {
        /// The client's address is not among those that the circuit allows.
        ClientAddress = "client_address",
        /// The circuit is private, and nothing was shown that opens it.
        NoCredential = "no_credential",
        /// What was shown does not open the circuit: forged, expired, revoked, or of another one.
        BadCredential = "bad_credential",
        /// The cookie is right, but another site made the browser send it.
        CrossOrigin = "cross_origin",
        /// The client is at the other end of too many connections already.
        ClientConnections = "client_connections",
        /// The circuit has too many connections already.
        CircuitConnections = "circuit_connections",
        /// The bytes are no head that HTTP allows.
        Malformed = "malformed",
        /// The head is too long, or has too many fields.
        HeadTooLarge = "head_too_large",
        /// The head did not come in time.
        HeadTimeout = "head_timeout",
        /// The content did not come in time.
        BodyTimeout = "body_timeout",
        /// The client did not take the answer in time.
        WriteTimeout = "write_timeout",
        /// The client broke the rules of HTTP/2, or tired the edge with what they allow.
        Http2Abuse = "http2_abuse",
        /// The PROXY protocol header is missing or malformed.
        ProxyProtocol = "proxy_protocol",
        /// The connection could not be secured.
        Handshake = "handshake",
        /// The circuit takes no more requests at this rate.
        RateLimit = "rate_limit",
        /// The process has little memory left.
        Memory = "memory",
    }
}

words! {
    /// Whose fault it was that something did not end well.
    pub(crate) enum Fault in "fault" {
        /// The client's.
        Client = "client",
        /// The target's.
        Target = "target",
        /// The edge's own.
        Edge = "edge",
    }
}

// === impl Refused ===

impl Refused {
    /// Says no with this problem; `detail` is for the log.
    pub(crate) fn new(problem: Problem, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { problem, reason: reason(problem), detail: detail.into(), instead: None }
    }

    /// The same for what needs no detail: the log has the problem's own code.
    pub(crate) fn plainly(problem: Problem) -> Self {
        Self::new(problem, problem.code())
    }

    /// The same, and the client gets this answer.
    pub(crate) fn instead(mut self, reply: Reply) -> Self {
        self.instead = Some(Box::new(reply));
        self
    }

    /// Whose fault it was.
    pub(crate) fn fault(&self) -> Fault {
        match self.problem {
            Problem::TargetUnreachable | Problem::TargetTimeout | Problem::NoTarget | Problem::Starting => {
                Fault::Target
            }
            Problem::Internal | Problem::Overloaded | Problem::Unconfirmed => Fault::Edge,
            _ => Fault::Client,
        }
    }
}

/// What a problem is counted as.
fn reason(problem: Problem) -> Option<Reason> {
    Some(match problem {
        Problem::ClientNotAllowed => Reason::ClientAddress,
        Problem::CredentialRequired => Reason::NoCredential,
        Problem::CredentialRejected | Problem::TicketRejected => Reason::BadCredential,
        Problem::CrossOrigin => Reason::CrossOrigin,
        Problem::ClientConnections => Reason::ClientConnections,
        Problem::CircuitConnections => Reason::CircuitConnections,
        Problem::Malformed(rule) if matches!(rule.status(), 414 | 431) => Reason::HeadTooLarge,
        Problem::Malformed(_) | Problem::AmbiguousClient | Problem::BadContent => Reason::Malformed,
        Problem::HeadTimeout => Reason::HeadTimeout,
        Problem::BodyTimeout => Reason::BodyTimeout,
        Problem::WriteTimeout => Reason::WriteTimeout,
        Problem::Http2Abuse => Reason::Http2Abuse,
        Problem::ProxyProtocol => Reason::ProxyProtocol,
        Problem::Handshake => Reason::Handshake,
        Problem::TooManyRequests { .. } => Reason::RateLimit,
        Problem::Overloaded => Reason::Memory,
        Problem::BadRequest
        | Problem::InvalidQuery
        | Problem::Unauthorized
        | Problem::TlsRequired
        | Problem::AddressNotAllowed
        | Problem::UnknownAddress
        | Problem::MethodNotAllowed
        | Problem::Internal
        | Problem::TargetUnreachable
        | Problem::NoTarget
        | Problem::Starting
        | Problem::TooManyStreams
        | Problem::Unconfirmed
        | Problem::TargetTimeout => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Rule;

    #[test]
    fn what_a_client_is_told_decides_what_is_counted() {
        for (problem, reason, fault) in [
            (Problem::TicketRejected, Some(Reason::BadCredential), Fault::Client),
            (Problem::Malformed(Rule::FieldCount), Some(Reason::HeadTooLarge), Fault::Client),
            (Problem::Malformed(Rule::ObsoleteFold), Some(Reason::Malformed), Fault::Client),
            (Problem::Overloaded, Some(Reason::Memory), Fault::Edge),
            (Problem::UnknownAddress, None, Fault::Client),
            (Problem::NoTarget, None, Fault::Target),
        ] {
            let refused = Refused::plainly(problem);
            assert_eq!((refused.reason, refused.fault()), (reason, fault), "{problem:?}");
        }
    }
}
