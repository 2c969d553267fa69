//! What is known about one request while it is served.
//!
//! Invariant: from its creation to its drop, the connection counts as busy; a dropped context leaves nothing behind,
//! however the request ended.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use entities::circuit::Backend;
use pingora_core::Error;
use pingora_proxy::Session;
use tokio::time::Instant;

use crate::balance::Attempts;
use crate::circuit::{Busy, Client, Connection, LiveCircuit, OpenRequest};
use crate::guard::Pace;

tokio::task_local! {
    /// The connection that this task serves: all requests of an HTTP/1 connection run in its task, each stream of an
    /// HTTP/2 connection in one of its own.
    pub(in crate::listen) static CONNECTION: Arc<Connection>;
}

/// One request.
pub(crate) struct RequestContext {
    /// Set once the circuit is found; dropped before the connection is idle again.
    pub(super) circuit: Option<(Arc<LiveCircuit>, OpenRequest)>,
    /// Which targets have been tried.
    pub(super) attempts: Attempts,
    /// Over which connection it came, and its number there.
    pub(super) connection: Option<Busy>,
    /// What a request that has left for a tunnel belonged to.
    tunnel: Option<(Arc<LiveCircuit>, Arc<Connection>)>,
    /// How fast its content comes.
    pub(super) pace: Option<Pace>,
    /// When it came, if somebody wants to know.
    came: Option<Instant>,
}

// === impl RequestContext ===

impl RequestContext {
    /// A request has come over the connection of this task.
    pub(super) fn begin() -> Self {
        let connection = CONNECTION.try_with(Arc::clone).ok().map(Busy::begin);
        let came = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        Self { circuit: None, attempts: Attempts::default(), connection, tunnel: None, pace: None, came }
    }

    /// The circuit, once it is found.
    pub(super) fn circuit(&self) -> Option<&LiveCircuit> {
        self.circuit.as_ref().map(|(circuit, _)| circuit.as_ref())
    }

    /// Who asks.
    pub(super) fn client(&self) -> Option<&Client> {
        self.connection.as_ref().map(|busy| busy.connection.client.as_ref())
    }

    /// The target has answered.
    pub(super) fn note_answer(&self) {
        if let Some(circuit) = self.circuit() {
            self.attempts.succeeded(&circuit.balancer);
        }
    }

    /// The request is being sent to a target at `socket`, which may take so long to answer as the circuit says.
    pub(super) fn wait_for_answer(&self, socket: RawFd) {
        if let Some((connection, limit)) = self.answer_limit() {
            connection.answer.start(Instant::now() + limit, socket);
        }
    }

    /// More of the request is on its way.
    pub(super) fn go_on_waiting(&self) {
        if let Some((connection, limit)) = self.answer_limit() {
            connection.answer.extend(Instant::now() + limit);
        }
    }

    /// Who waits, and how long. A socket that many streams share cannot be given up for one of them.
    fn answer_limit(&self) -> Option<(&Connection, Duration)> {
        let (circuit, busy) = (self.circuit()?, self.connection.as_ref()?);
        let limit = circuit.limits.first_byte.filter(|_| circuit.backend == Backend::Http)?;
        Some((&busy.connection, limit))
    }

    /// The request has left for a tunnel.
    pub(super) fn become_tunnel(&mut self, circuit: Arc<LiveCircuit>, busy: &Busy) {
        self.tunnel = Some((circuit, Arc::clone(&busy.connection)));
    }

    /// The status of the answer that was not written here.
    pub(super) fn tunnel_status(&self) -> Option<u16> {
        self.tunnel.as_ref().map(|_| 101)
    }

    /// One line for one request.
    pub(super) fn log(&self, session: &Session, status: Option<u16>, error: Option<&Error>) {
        let Some(came) = self.came else { return };
        let request = session.req_header();
        let tunnel = self.tunnel.as_ref();
        let circuit = self.circuit().or(tunnel.map(|(circuit, _)| circuit.as_ref()));
        let connection =
            self.connection.as_ref().map(|busy| &busy.connection).or(tunnel.map(|(_, connection)| connection));
        tracing::debug!(
            method = %request.method,
            path = request.uri.path(),
            key = circuit.map(|circuit| circuit.key.as_str()),
            client = connection.map(|connection| tracing::field::display(connection.client.ip)),
            status,
            ms = came.elapsed().as_millis() as u64,
            error = error.map(tracing::field::display),
            "request"
        );
    }
}
