//! What is known about one request while it is served.
//!
//! Invariant: from its creation to its drop, the connection counts as busy; a dropped context leaves nothing behind,
//! however the request ended.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entities::authority::Scheme;
use entities::circuit::Backend;
use http::HeaderValue;
use pingora_core::Error;
use pingora_proxy::Session;
use tokio::time::Instant;

use crate::access::Pass;
use crate::balance::Attempts;
use crate::circuit::{Busy, Client, Connection, LiveCircuit, OpenRequest};
use crate::client::Origin;
use crate::guard::Pace;
use crate::rate::{Booking, Way};
use crate::request_id::RequestId;

tokio::task_local! {
    /// The connection that this task serves: all requests of an HTTP/1 connection run in its task, each stream of an
    /// HTTP/2 connection in one of its own.
    pub(in crate::listen) static CONNECTION: Arc<Connection>;
}

/// One request.
pub(crate) struct RequestContext {
    /// What it is called.
    pub(super) id: RequestId,
    /// Set once the circuit is found; dropped before the connection is idle again.
    pub(super) circuit: Option<(Arc<LiveCircuit>, OpenRequest)>,
    /// What opened the circuit.
    pub(super) pass: Pass,
    /// Which targets have been tried.
    pub(super) attempts: Attempts,
    /// Over which connection it came, and its number there.
    pub(super) connection: Option<Busy>,
    /// What a request that has left for a tunnel belonged to.
    tunnel: Option<(Arc<LiveCircuit>, Arc<Connection>)>,
    /// What the proxy says that it came through, if that is trusted.
    told: Option<Box<Told>>,
    /// What is held back of its answer; dropping it gives the time back.
    held_back: Option<Box<Booking>>,
    /// How fast its content comes.
    pub(super) pace: Option<Pace>,
    /// When it came, if somebody wants to know.
    came: Option<Instant>,
}

/// What a trusted proxy says about a request.
pub(super) struct Told {
    /// Whom it is from.
    client: Arc<Client>,
    /// The scheme that the client used.
    pub(super) scheme: Option<Scheme>,
    /// The host that the client asked for.
    pub(super) host: Option<HeaderValue>,
    /// The port that the client connected to.
    pub(super) port: Option<u16>,
}

// === impl RequestContext ===

impl RequestContext {
    /// A request has come over the connection of this task.
    pub(super) fn begin() -> Self {
        let connection = CONNECTION.try_with(Arc::clone).ok().map(Busy::begin);
        let came = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        let id = RequestId::next();
        Self {
            attempts: Attempts::of(id.clone()),
            id,
            circuit: None,
            pass: Pass::Free,
            connection,
            tunnel: None,
            told: None,
            held_back: None,
            pace: None,
            came,
        }
    }

    /// The circuit, once it is found.
    pub(super) fn circuit(&self) -> Option<&LiveCircuit> {
        self.circuit.as_ref().map(|(circuit, _)| circuit.as_ref())
    }

    /// Whether the target gets the bearer token that opened the circuit.
    pub(super) fn forwards_token(&self) -> bool {
        let rules = self.circuit().and_then(|circuit| circuit.access.as_deref());
        self.pass == Pass::Token && rules.is_some_and(|rules| rules.forward_token)
    }

    /// Who asks: one connection of a proxy carries requests of many clients.
    pub(super) fn client(&self) -> Option<&Client> {
        match &self.told {
            Some(told) => Some(&told.client),
            None => self.connection().map(|connection| connection.client.as_ref()),
        }
    }

    /// What a trusted proxy says; nothing if the peer is none.
    pub(super) fn told(&self) -> Option<&Told> {
        self.told.as_deref()
    }

    /// A trusted proxy calls the request so.
    pub(super) fn rename(&mut self, id: RequestId) {
        self.attempts = Attempts::of(id.clone());
        self.id = id;
    }

    /// A trusted proxy says this about the request.
    pub(super) fn note_origin(&mut self, peer: &Arc<Client>, origin: Origin) {
        let Origin { ip, is_hidden, scheme, host, port } = origin;
        let client = if ip == peer.ip && !is_hidden {
            Arc::clone(peer)
        } else {
            Arc::new(Client { is_hidden, ..Client::new(ip) })
        };
        self.told = Some(Box::new(Told { client, scheme, host, port }));
    }

    fn connection(&self) -> Option<&Connection> {
        let tunnel = self.tunnel.as_ref().map(|(_, connection)| connection.as_ref());
        self.connection.as_ref().map(|busy| busy.connection.as_ref()).or(tunnel)
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

    /// More of the request is on its way; it is sent `at` that time.
    pub(super) fn go_on_waiting(&self, at: Option<Instant>) {
        if let Some((connection, limit)) = self.answer_limit() {
            connection.answer.extend(at.unwrap_or_else(Instant::now) + limit);
        }
    }

    /// Books the time of a piece of content; nothing if it may pass at once.
    pub(super) fn book(&self, way: Way, content: Option<&Bytes>) -> Option<Booking> {
        let bandwidth = self.circuit()?.bandwidth.as_ref()?;
        bandwidth.book(way, content?.len())
    }

    /// How long a piece of the answer must wait.
    pub(super) fn hold_back(&mut self, content: Option<&Bytes>) -> Option<Duration> {
        self.held_back = self.book(Way::ToClient, content).map(Box::new);
        self.held_back.as_ref().map(|booking| booking.at().saturating_duration_since(Instant::now()))
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
        tracing::debug!(
            request = %self.id,
            method = %request.method,
            path = request.uri.path(),
            key = circuit.map(|circuit| circuit.key.as_str()),
            client = self.client().map(|client| tracing::field::display(client.ip)),
            status,
            ms = came.elapsed().as_millis() as u64,
            error = error.map(tracing::field::display),
            "request"
        );
    }
}
