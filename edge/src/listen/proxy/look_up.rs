//! Finds what a request is for: a circuit, the worker API, or nothing.
//!
//! Invariant: the order on the traffic port is exact circuit host, worker API, `404`; on a dynamic port it is the
//! port's circuit or `404`, whatever the `Host` says.

use std::sync::Arc;

use entities::host::split_host_header;
use http::Version;
use http::header::AUTHORIZATION;
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::context::RequestContext;
use super::forwarding::asked_host;
use super::{EdgeProxy, reply};
use crate::api::{Endpoint, Question};
use crate::circuit::{Connection, Entrance, LiveCircuit, NotOpened};
use crate::guard::Rule;
use crate::refusals::Refusal;
use crate::reply::{Problem, Reply};

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
            reply::send_problem(session, Problem::Internal, false).await?;
            return Ok(true);
        };
        let connection = Arc::clone(&busy.connection);
        // Noted when the stream began; a head of HTTP/1 has been judged before it was one.
        if let Some(rule) = session.req_header().extensions.get::<Rule>().copied() {
            reply::send_problem(session, Problem::Malformed(rule), false).await?;
            return Ok(true);
        }
        let problem = match self.find(session.req_header(), connection.entrance) {
            Found::Circuit(circuit) if self.freshness.has_lapsed(circuit.is_public) => Problem::Unconfirmed,
            Found::Circuit(circuit) if !circuit.balancer.has_weight() => Problem::NoTarget,
            Found::Circuit(circuit) => {
                match circuit.lifetime.open(&connection, busy.request, self.client.max_open_per_circuit) {
                    Ok(open) => {
                        context.circuit = Some((circuit, open));
                        return Ok(false);
                    }
                    // It ended between the look-up and now.
                    Err(NotOpened::Ended) => Problem::UnknownAddress,
                    Err(NotOpened::Full) => {
                        let (ip, key) = (connection.client.ip, Some(&circuit.key));
                        self.refusals.note(Refusal::CircuitConnections, ip, key, self.client.max_open_per_circuit);
                        Problem::CircuitConnections
                    }
                }
            }
            Found::Api(endpoint) => {
                // Boxed: a wait for half a minute must not make the future of every request larger.
                let answer = Box::pin(self.ask(session.req_header(), endpoint, &connection)).await;
                reply::send(session, answer).await?;
                return Ok(true);
            }
            Found::Nothing(problem) => problem,
        };
        let has_own_port = matches!(connection.entrance, Entrance::Port(_)) && problem == Problem::UnknownAddress;
        reply::send_problem(session, problem, has_own_port).await?;
        Ok(true)
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

    async fn ask(&self, request: &RequestHeader, endpoint: Endpoint, connection: &Connection) -> Reply {
        let field = |name: &http::HeaderName| request.headers.get(name).map(http::HeaderValue::as_bytes);
        let question = Question {
            endpoint,
            method: &request.method,
            query: request.uri.query().unwrap_or_default(),
            client: connection.client.ip,
            authorization: field(&AUTHORIZATION),
            token: field(&http::HeaderName::from_static("x-backendai-token")),
        };
        self.api.answer(question).await
    }
}
