//! What is known about one request while it is served.
//!
//! Invariant: from its creation to its drop, the connection counts as busy; a dropped context leaves nothing behind,
//! however the request ended.

use std::sync::Arc;
use std::time::Instant;

use pingora_core::Error;
use pingora_proxy::Session;

use crate::balance::Attempts;
use crate::circuit::{Connection, LiveCircuit, OpenRequest};

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
    /// When it came, if somebody wants to know.
    came: Option<Instant>,
}

/// A connection that serves a request; dropping it makes the connection idle.
pub(super) struct Busy {
    pub(super) connection: Arc<Connection>,
    pub(super) request: u64,
}

// === impl RequestContext ===

impl RequestContext {
    /// A request has come over the connection of this task.
    pub(super) fn begin() -> Self {
        let connection = CONNECTION.try_with(Arc::clone).ok().map(|connection| {
            let request = connection.begin_request();
            Busy { connection, request }
        });
        let came = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        Self { circuit: None, attempts: Attempts::default(), connection, came }
    }

    /// The circuit, once it is found.
    pub(super) fn circuit(&self) -> Option<&LiveCircuit> {
        self.circuit.as_ref().map(|(circuit, _)| circuit.as_ref())
    }

    /// One line for one request.
    pub(super) fn log(&self, session: &Session, status: Option<u16>, error: Option<&Error>) {
        let Some(came) = self.came else { return };
        let request = session.req_header();
        tracing::debug!(
            method = %request.method,
            path = request.uri.path(),
            key = self.circuit().map(|circuit| circuit.key.as_str()),
            client = self.connection.as_ref().map(|busy| tracing::field::display(busy.connection.client.ip)),
            status,
            ms = came.elapsed().as_millis() as u64,
            error = error.map(tracing::field::display),
            "request"
        );
    }
}

// === impl Busy ===

impl Drop for Busy {
    fn drop(&mut self) {
        self.connection.end_request();
    }
}
