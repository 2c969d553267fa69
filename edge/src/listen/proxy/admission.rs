//! Lets a request into a circuit, or says how to get in.
//!
//! Invariant: every refusal is counted; what is asked of the edge itself, such as the exchange of a ticket, is never
//! forwarded.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use entities::authority::Scheme;
use http::header::SET_COOKIE;
use http::{HeaderValue, Method};
use pingora_http::RequestHeader;

use super::EdgeProxy;
use super::context::RequestContext;
use super::forwarding::asked_host;
use crate::access::{Denial, Pass, RESERVED_PATH, Rules, TICKET_PATH, login_location};
use crate::circuit::LiveCircuit;
use crate::refusals::Refusal;
use crate::reply::{Problem, Reply};
use crate::request_id::RequestId;

/// What becomes of a request.
pub(super) enum Admission {
    /// It may use the circuit.
    Passed(Pass),
    /// It may not.
    Refused(Problem),
    /// It is answered here.
    Answer(Box<Reply>),
}

/// How a request came, as the browser that sent it sees it: a trusted proxy in between says what that is.
struct Way<'a> {
    ip: IpAddr,
    is_hidden: bool,
    scheme: Scheme,
    host: Option<Cow<'a, HeaderValue>>,
    id: &'a RequestId,
}

// === impl Way ===

impl<'a> Way<'a> {
    fn of(request: &'a RequestHeader, context: &'a RequestContext, circuit: &LiveCircuit) -> Self {
        let (client, told) = (context.client(), context.told());
        let host = told.and_then(|told| told.host.as_ref()).map(Cow::Borrowed);
        Self {
            ip: client.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.ip),
            is_hidden: client.is_none_or(|client| client.is_hidden),
            scheme: told.and_then(|told| told.scheme).unwrap_or(circuit.way_in.scheme),
            host: host.or_else(|| asked_host(request)),
            id: &context.id,
        }
    }

    /// Where the client is, if anybody knows.
    fn known_ip(&self) -> Option<IpAddr> {
        (!self.is_hidden).then_some(self.ip)
    }
}

// === impl EdgeProxy ===

impl EdgeProxy {
    /// Whether `request` may use `circuit`.
    pub(super) fn admit(&self, request: &RequestHeader, context: &RequestContext, circuit: &LiveCircuit) -> Admission {
        let way = Way::of(request, context, circuit);
        if request.uri.path().starts_with(RESERVED_PATH) {
            return self.answer_own_path(request, &way, circuit);
        }
        let Some(rules) = circuit.access.as_deref() else { return Admission::Passed(Pass::Free) };
        let host = way.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        match self.authorizer.authorize(rules, request, way.known_ip(), way.scheme, host) {
            Ok(pass) => Admission::Passed(pass),
            Err(denial) => self.deny(denial, request, &way, circuit, rules),
        }
    }

    fn deny(
        &self,
        denial: Denial,
        request: &RequestHeader,
        way: &Way<'_>,
        circuit: &LiveCircuit,
        rules: &Rules,
    ) -> Admission {
        let (refusal, problem) = match denial {
            Denial::Client => (Refusal::ClientAddress, Problem::ClientNotAllowed),
            Denial::NoCredential => (Refusal::NoCredential, Problem::CredentialRequired),
            Denial::BadCredential(_) => (Refusal::BadCredential, Problem::CredentialRejected),
            Denial::CrossOrigin => (Refusal::CrossOrigin, Problem::CrossOrigin),
        };
        self.refusals.note_request(refusal, way.ip, Some(&circuit.key), way.id, denial);
        let may_log_in = matches!(denial, Denial::NoCredential | Denial::BadCredential(_));
        match login_location(circuit, rules, request).filter(|_| may_log_in) {
            Some(location) => Admission::Answer(Box::new(Reply::see_other(location))),
            None => Admission::Refused(problem),
        }
    }

    /// What the edge itself answers on every circuit: tickets become cookies.
    fn answer_own_path(&self, request: &RequestHeader, way: &Way<'_>, circuit: &LiveCircuit) -> Admission {
        if request.uri.path() != TICKET_PATH {
            return Admission::Refused(Problem::UnknownAddress);
        }
        if request.method != Method::GET {
            return Admission::Refused(Problem::MethodNotAllowed);
        }
        let Some(rules) = circuit.access.as_deref() else {
            // Nothing is needed here any more.
            return Admission::Answer(Box::new(Reply::see_other(HeaderValue::from_static("/"))));
        };
        if let Err(denial) = rules.admit(way.known_ip()) {
            return self.deny(denial, request, way, circuit, rules);
        }
        let query = request.uri.query().unwrap_or_default();
        match self.authorizer.exchange(rules, query, way.scheme) {
            Ok(exchanged) => {
                let answer = Reply::see_other(exchanged.location).with_field(SET_COOKIE, exchanged.cookie);
                Admission::Answer(Box::new(answer))
            }
            Err(error) => {
                let detail = format_args!("ticket: {error}");
                self.refusals.note_request(Refusal::BadCredential, way.ip, Some(&circuit.key), way.id, detail);
                Admission::Refused(Problem::TicketRejected)
            }
        }
    }
}
