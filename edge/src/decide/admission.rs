//! Lets a request into a circuit, or says how to get in.
//!
//! Invariant: what is asked of the edge itself, such as the exchange of a ticket, is never forwarded.

use std::net::IpAddr;

use entities::authority::Scheme;
use http::header::SET_COOKIE;
use http::{HeaderValue, Method};

use super::Decider;
use super::context::RequestContext;
use crate::access::{Denial, Pass, RESERVED_PATH, Rules, TICKET_PATH, login_location};
use crate::circuit::LiveCircuit;
use crate::head::RequestView;
use crate::refusal::Refused;
use crate::reply::{Problem, Reply};

/// What becomes of a request that is not turned away.
pub(super) enum Admission {
    /// It may use the circuit.
    Passed(Pass),
    /// It is answered here.
    Answer(Box<Reply>),
}

/// Where a request came from, as the browser that sent it sees it: a trusted proxy in between says what that is.
struct RequestOrigin<'a> {
    /// Where the client is, if anybody knows.
    ip: Option<IpAddr>,
    scheme: Scheme,
    host: &'a str,
}

// === impl RequestOrigin ===

impl<'a> RequestOrigin<'a> {
    fn of(context: &'a RequestContext) -> Self {
        Self {
            ip: (!context.client.is_hidden).then_some(context.client.ip),
            scheme: context.scheme(),
            host: context.host().and_then(|host| host.to_str().ok()).unwrap_or_default(),
        }
    }
}

// === impl Decider ===

impl Decider {
    /// Whether `request` may use `circuit`, and whether the edge may let it.
    pub(super) fn admit(
        &self,
        request: &impl RequestView,
        context: &RequestContext,
        circuit: &LiveCircuit,
    ) -> Result<Admission, Refused> {
        if context.connection().is_shed() {
            return Err(Refused::new(Problem::Overloaded, "no memory for another connection"));
        }
        if self.shared.freshness.has_lapsed(circuit.is_public) {
            return Err(Refused::plainly(Problem::Unconfirmed));
        }
        let origin = RequestOrigin::of(context);
        if request.path().starts_with(RESERVED_PATH) {
            return self.answer_own_path(request, &origin, circuit);
        }
        let Some(rules) = circuit.access.as_deref() else { return Ok(Admission::Passed(Pass::Free)) };
        match self.authorizer.authorize(rules, request, origin.ip, origin.scheme, origin.host) {
            Ok(pass) => Ok(Admission::Passed(pass)),
            Err(denial) => deny(denial, request, circuit, rules),
        }
    }

    /// What the edge itself answers on every circuit: tickets become cookies.
    fn answer_own_path(
        &self,
        request: &impl RequestView,
        origin: &RequestOrigin<'_>,
        circuit: &LiveCircuit,
    ) -> Result<Admission, Refused> {
        if request.path() != TICKET_PATH {
            return Err(Refused::plainly(Problem::UnknownAddress));
        }
        if *request.method() != Method::GET {
            return Err(Refused::plainly(Problem::MethodNotAllowed));
        }
        let Some(rules) = circuit.access.as_deref() else {
            // Nothing is needed here any more.
            return Ok(Admission::Answer(Box::new(Reply::see_other(HeaderValue::from_static("/")))));
        };
        if let Err(denial) = rules.admit(origin.ip) {
            return deny(denial, request, circuit, rules);
        }
        let exchanged = self
            .authorizer
            .exchange(rules, request.query().unwrap_or_default(), origin.scheme)
            .map_err(|error| Refused::new(Problem::TicketRejected, format!("ticket: {error}")))?;
        let answer = Reply::see_other(exchanged.location).with_field(SET_COOKIE, exchanged.cookie);
        Ok(Admission::Answer(Box::new(answer)))
    }
}

/// Turns a request away, or sends the person who made it to where one gets in.
fn deny(
    denial: Denial,
    request: &impl RequestView,
    circuit: &LiveCircuit,
    rules: &Rules,
) -> Result<Admission, Refused> {
    let problem = match denial {
        Denial::Client => Problem::ClientNotAllowed,
        Denial::NoCredential => Problem::CredentialRequired,
        Denial::BadCredential(_) => Problem::CredentialRejected,
        Denial::CrossOrigin => Problem::CrossOrigin,
    };
    let refused = Refused::new(problem, denial.to_string());
    let may_log_in = matches!(denial, Denial::NoCredential | Denial::BadCredential(_));
    match login_location(&circuit.key, rules, request).filter(|_| may_log_in) {
        Some(location) => Err(refused.instead(Reply::see_other(location))),
        None => Err(refused),
    }
}
