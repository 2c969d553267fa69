//! Finds what a request is for: a circuit, the worker API, or nothing.
//!
//! Invariant: the order on the traffic port is exact circuit host, worker API, `404`; on a dynamic port it is the
//! port's circuit or `404`, whatever the `Host` says. A circuit says nothing about itself, not even whether it works, to
//! whom it does not admit.

use std::sync::Arc;

use entities::host::split_host_header;
use http::Version;
use http::header::AUTHORIZATION;
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::admission::Admission;
use super::context::RequestContext;
use super::forwarding::asked_host;
use super::{EdgeProxy, reply};
use crate::api::{Endpoint, Question};
use crate::circuit::{Client, Entrance, LiveCircuit, NotOpened};
use crate::guard::Rule;
use crate::refusals::Refusal;
use crate::reply::{Problem, Reply};
use crate::request_id::RequestId;

/// What a request is for.
enum Found {
    Circuit(Arc<LiveCircuit>),
    Api(Endpoint),
    Nothing(Problem),
}

// === impl EdgeProxy ===

impl EdgeProxy {
    /// The first phase: `true` if the request has been answered here.
    pub(super) async fn look_up(&self, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
        let Some(busy) = &context.connection else {
            reply::send_problem(session, Problem::Internal, false, &context.id).await?;
            return Ok(true);
        };
        let connection = Arc::clone(&busy.connection);
        // Noted when the stream began; a head of HTTP/1 has been judged before it was one.
        if let Some(rule) = session.req_header().extensions.get::<Rule>().copied() {
            reply::send_problem(session, Problem::Malformed(rule), false, &context.id).await?;
            return Ok(true);
        }
        if connection.client.is_trusted_proxy {
            if let Some(id) = RequestId::told(&session.req_header().headers) {
                context.rename(id);
            }
            match self.peers.origin(connection.client.ip, &session.req_header().headers) {
                Ok(origin) => context.note_origin(&connection.client, origin),
                Err(error) => {
                    self.refusals.note_request(Refusal::Malformed, connection.client.ip, None, &context.id, error);
                    reply::send_problem(session, Problem::AmbiguousClient, false, &context.id).await?;
                    return Ok(true);
                }
            }
        }
        let Some(busy) = &context.connection else { return Ok(false) };
        let problem = match self.find(session.req_header(), connection.entrance) {
            Found::Circuit(circuit) if connection.is_shed => {
                let client = context.client().map_or(connection.client.ip, |client| client.ip);
                self.refusals.note_request(
                    Refusal::Memory,
                    client,
                    Some(&circuit.key),
                    &context.id,
                    "no memory for another connection",
                );
                Problem::Overloaded
            }
            Found::Circuit(circuit) if self.freshness.has_lapsed(circuit.is_public) => Problem::Unconfirmed,
            Found::Circuit(circuit) => match self.admit(session.req_header(), context, &circuit) {
                Admission::Answer(answer) => {
                    reply::send(session, *answer, &context.id).await?;
                    return Ok(true);
                }
                Admission::Refused(problem) => problem,
                Admission::Passed(_) if !circuit.balancer.has_weight() => Problem::NoTarget,
                Admission::Passed(pass) => {
                    match circuit.lifetime.open(&connection, busy.request, self.client.max_open_per_circuit) {
                        Ok(open) => {
                            // Last, so that nobody uses up the rate of a circuit who may not use it.
                            let over_rate = self.over_rate(&circuit, context);
                            context.circuit = Some((circuit, open));
                            context.pass = pass;
                            match over_rate {
                                None => return Ok(false),
                                Some(problem) => problem,
                            }
                        }
                        // It ended between the look-up and now.
                        Err(NotOpened::Ended) => Problem::UnknownAddress,
                        Err(NotOpened::Full) => {
                            let client = context.client().map_or(connection.client.ip, |client| client.ip);
                            let most = self.client.max_open_per_circuit;
                            self.refusals.note_request(
                                Refusal::CircuitConnections,
                                client,
                                Some(&circuit.key),
                                &context.id,
                                most,
                            );
                            Problem::CircuitConnections
                        }
                    }
                }
            },
            Found::Api(endpoint) => {
                let client = context.client().unwrap_or(&connection.client);
                // Boxed: a wait for half a minute must not make the future of every request larger.
                let answer = Box::pin(self.ask(session.req_header(), endpoint, client, &context.id)).await;
                reply::send(session, if connection.is_ending() { answer.closing() } else { answer }, &context.id)
                    .await?;
                return Ok(true);
            }
            Found::Nothing(problem) => problem,
        };
        let has_own_port = matches!(connection.entrance, Entrance::Port(_)) && problem == Problem::UnknownAddress;
        reply::send_problem(session, problem, has_own_port || connection.is_ending(), &context.id).await?;
        Ok(true)
    }

    /// What to answer if the circuit takes no further request of this client now.
    fn over_rate(&self, circuit: &LiveCircuit, context: &RequestContext) -> Option<Problem> {
        let (limiter, client) = (circuit.rate.as_ref()?, context.client()?);
        let wait = limiter.take(client.ip).err()?;
        self.refusals.note_request(Refusal::RateLimit, client.ip, Some(&circuit.key), &context.id, wait);
        Some(Problem::TooManyRequests { retry_after_s: wait.seconds() })
    }

    fn find(&self, request: &RequestHeader, entrance: Entrance) -> Found {
        let asked = asked_host(request);
        let host = match &asked {
            Some(value) => match value.to_str().ok().and_then(split_host_header) {
                Some((host, _)) => Some(host),
                None => return Found::Nothing(Problem::BadRequest),
            },
            // RFC 9112 §3.2; HTTP/1.0 had no such field.
            None if request.version >= Version::HTTP_11 => return Found::Nothing(Problem::BadRequest),
            None => None,
        };
        let unknown = Found::Nothing(Problem::UnknownAddress);
        match (entrance, host) {
            (Entrance::Port(port), _) => self.table.by_port(port).map_or(unknown, Found::Circuit),
            (Entrance::Traffic, None) => unknown,
            (Entrance::Traffic, Some(host)) => {
                if let Some(circuit) = self.table.by_host(&host) {
                    return Found::Circuit(circuit);
                }
                match Endpoint::of(request.uri.path()) {
                    Some(endpoint) if self.api.is_at(&host) => Found::Api(endpoint),
                    _ => unknown,
                }
            }
        }
    }

    async fn ask(&self, request: &RequestHeader, endpoint: Endpoint, client: &Client, id: &RequestId) -> Reply {
        let field = |name: &http::HeaderName| request.headers.get(name).map(http::HeaderValue::as_bytes);
        let question = Question {
            endpoint,
            id,
            method: &request.method,
            query: request.uri.query().unwrap_or_default(),
            client,
            authorization: field(&AUTHORIZATION),
            token: field(&http::HeaderName::from_static("x-backendai-token")),
        };
        self.api.answer(question).await
    }
}
