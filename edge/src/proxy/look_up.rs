//! What becomes of a request before anything is forwarded: identify → find → admit → open, each a function of its own.
//!
//! Invariant: the order on the traffic port is exact circuit host, worker API, `404`; on a dynamic port it is the
//! port's circuit or `404`, whatever the `Host` says. A circuit says nothing about itself, not even whether it works, to
//! whom it does not admit.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use super::EdgeProxy;
use super::admission::Admission;
use super::asked::AskedHost;
use super::context::RequestContext;
use crate::access::Pass;
use crate::api::{Endpoint, Question};
use crate::circuit::LiveCircuit;
use crate::connection::EntrancePort;
use crate::record::RedactedPath;
use crate::refusal::Refused;
use crate::reply::{Problem, Reply};
use crate::request_id::RequestId;

/// What a request is for.
enum Found {
    Circuit(Arc<LiveCircuit>),
    Api(Endpoint),
}

/// What becomes of a request.
pub(super) enum Verdict {
    /// A target gets it.
    Forward,
    /// The edge answers it itself.
    Answer(Reply),
}

// === impl EdgeProxy ===

impl EdgeProxy {
    /// What becomes of `request`, or why it is turned away.
    pub(super) async fn look_up(
        &self,
        request: &RequestHeader,
        context: &mut RequestContext,
    ) -> Result<Verdict, Refused> {
        self.identify(request, context)?;
        let circuit = match self.find(request, context)? {
            Found::Circuit(circuit) => circuit,
            // Boxed: a wait for half a minute must not make the future of every request larger.
            Found::Api(endpoint) => return Ok(Verdict::Answer(Box::pin(self.ask(request, endpoint, context)).await)),
        };
        context.recording.circuit = Some(circuit.key.clone());
        match self.admit(request, context, &circuit)? {
            Admission::Answer(answer) => Ok(Verdict::Answer(*answer)),
            Admission::Passed(pass) => {
                self.open(circuit, pass, context)?;
                Ok(Verdict::Forward)
            }
        }
    }

    /// Finds out who asks, for which host, and what the request is called.
    fn identify(&self, request: &RequestHeader, context: &mut RequestContext) -> Result<(), Refused> {
        context.recording.method = Some(request.method.clone());
        context.recording.path = request.uri.path_and_query().cloned().map(RedactedPath::of);
        if let Some(rule) = context.malformed {
            return Err(Refused::new(Problem::Malformed(rule), rule.to_string()));
        }
        if context.client.is_trusted_proxy {
            if let Some(id) = RequestId::told(&request.headers) {
                context.rename(id);
            }
            let origin = self.shared.peers.origin(context.client.ip, &request.headers);
            context.note_origin(origin.map_err(|error| Refused::new(Problem::AmbiguousClient, error.to_string()))?);
        }
        context.asked = AskedHost::of(request).map_err(Refused::plainly)?;
        context.recording.host = context.asked.as_ref().map(|asked| asked.value.clone());
        Ok(())
    }

    /// Finds what is asked for.
    fn find(&self, request: &RequestHeader, context: &RequestContext) -> Result<Found, Refused> {
        let unknown = || Refused::plainly(Problem::UnknownAddress);
        match context.connection().entrance.port {
            EntrancePort::Circuit(port) => self.shared.table.by_port(port).map(Found::Circuit).ok_or_else(unknown),
            EntrancePort::Traffic => {
                let host = context.asked.as_ref().ok_or_else(unknown)?.name();
                if let Some(circuit) = self.shared.table.by_host(host) {
                    return Ok(Found::Circuit(circuit));
                }
                let endpoint = Endpoint::of(request.uri.path()).filter(|_| self.api.is_at(host));
                endpoint.map(Found::Api).ok_or_else(unknown)
            }
        }
    }

    /// Opens the request in its circuit, which has admitted it.
    fn open(&self, circuit: Arc<LiveCircuit>, pass: Pass, context: &mut RequestContext) -> Result<(), Refused> {
        if !circuit.balancer.has_weight() {
            return Err(Refused::plainly(Problem::NoTarget));
        }
        let open = circuit.open(&context.busy, context.client.ip, self.shared.limits.max_open_per_circuit)?;
        context.circuit = Some((circuit, open));
        context.pass = pass;
        Ok(())
    }

    async fn ask(&self, request: &RequestHeader, endpoint: Endpoint, context: &RequestContext) -> Reply {
        let field = |name: &HeaderName| request.headers.get(name).map(HeaderValue::as_bytes);
        let question = Question {
            endpoint,
            id: context.id(),
            method: &request.method,
            query: request.uri.query().unwrap_or_default(),
            client: &context.client,
            authorization: field(&AUTHORIZATION),
            token: field(&HeaderName::from_static("x-backendai-token")),
        };
        let answer = self.api.answer(question).await;
        if context.connection().is_ending() { answer.closing() } else { answer }
    }
}
