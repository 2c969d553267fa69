//! What becomes of a request before anything is forwarded: identify → find → admit → open, each a function of its own.
//!
//! Invariant: the order on the traffic port is exact circuit host, worker API, `404`; on a dynamic port it is the
//! port's circuit or `404`, whatever the `Host` says. A circuit says nothing about itself, not even whether it works, to
//! whom it does not admit.

use std::sync::Arc;

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::Decider;
use super::admission::Admission;
use super::asked::AskedHost;
use super::context::RequestContext;
use crate::access::Pass;
use crate::api::{Endpoint, Question};
use crate::circuit::LiveCircuit;
use crate::client::ORIGIN_FIELDS;
use crate::connection::EntrancePort;
use crate::head::RequestView;
use crate::refusal::Refused;
use crate::reply::{Problem, Reply};
use crate::request_id::{REQUEST_ID, RequestId};

/// What a request is for.
pub(crate) enum Found {
    /// A circuit.
    Circuit(Arc<LiveCircuit>),
    /// The worker API.
    Api(Endpoint),
}

/// What becomes of a request.
pub(crate) enum Verdict {
    /// A target gets it.
    Forward,
    /// The edge answers it itself.
    Answer(Reply),
    /// The worker API is asked.
    Ask(Endpoint),
}

// === impl Decider ===

impl Decider {
    /// What becomes of `request`, or why it is turned away.
    pub(crate) fn look_up(&self, request: &impl RequestView, context: &mut RequestContext) -> Result<Verdict, Refused> {
        self.identify(request, context)?;
        match self.find(request, context)? {
            Found::Circuit(circuit) => self.let_in(circuit, request, context),
            Found::Api(endpoint) => Ok(Verdict::Ask(endpoint)),
        }
    }

    /// What becomes of a request for `circuit`.
    pub(crate) fn let_in(
        &self,
        circuit: Arc<LiveCircuit>,
        request: &impl RequestView,
        context: &mut RequestContext,
    ) -> Result<Verdict, Refused> {
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
    pub(crate) fn identify(&self, request: &impl RequestView, context: &mut RequestContext) -> Result<(), Refused> {
        context.recording.method = Some(request.method().clone());
        if let Some(rule) = context.malformed {
            return Err(Refused::new(Problem::Malformed(rule), rule.to_string()));
        }
        if context.client.is_trusted_proxy {
            if let Some(id) = request.value(&REQUEST_ID).and_then(RequestId::told) {
                context.rename(id);
            }
            let origin = self.shared.peers.origin(context.client.ip, &request.map_of(&ORIGIN_FIELDS));
            context.note_origin(origin.map_err(|error| Refused::new(Problem::AmbiguousClient, error.to_string()))?);
        }
        context.asked = AskedHost::of(request).map_err(Refused::plainly)?;
        context.recording.host = context.asked.as_ref().map(|asked| asked.value.clone());
        Ok(())
    }

    /// Finds what is asked for.
    pub(crate) fn find(&self, request: &impl RequestView, context: &RequestContext) -> Result<Found, Refused> {
        let unknown = || Refused::plainly(Problem::UnknownAddress);
        match context.connection().entrance.port {
            EntrancePort::Circuit(port) => self.shared.table.by_port(port).map(Found::Circuit).ok_or_else(unknown),
            EntrancePort::Traffic => {
                let host = context.asked.as_ref().ok_or_else(unknown)?.name();
                if let Some(circuit) = self.shared.table.by_host(host) {
                    return Ok(Found::Circuit(circuit));
                }
                let endpoint = Endpoint::of(request.path()).filter(|_| self.api.is_at(host));
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

    /// What the worker API answers.
    pub(crate) async fn ask(&self, request: &impl RequestView, endpoint: Endpoint, context: &RequestContext) -> Reply {
        let question = Question {
            endpoint,
            id: context.id(),
            method: request.method(),
            query: request.query().unwrap_or_default(),
            client: &context.client,
            authorization: request.value(&AUTHORIZATION),
            token: request.value(&HeaderName::from_static("x-backendai-token")),
        };
        let answer = self.api.answer(question).await;
        if context.connection().is_ending() { answer.closing() } else { answer }
    }
}
