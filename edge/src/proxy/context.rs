//! What is known about one request while it is served.
//!
//! Invariant: from its creation to its drop, the connection counts as busy; a dropped context leaves nothing behind but
//! its record, however the request ended.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entities::authority::Scheme;
use entities::circuit::Backend;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::Error;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::asked::AskedHost;
use super::reply;
use crate::access::Pass;
use crate::balance::Attempts;
use crate::circuit::{LiveCircuit, OpenRequest};
use crate::client::{Client, Origin};
use crate::connection::{Busy, Connection};
use crate::guard::{Pace, Rule};
use crate::rate::{Booking, Way};
use crate::record::{Recording, Records, Spoken};
use crate::request_id::RequestId;
use crate::tunnel::Switched;

/// What the door knows about a request. It is carried through pingora to the phases of the request.
#[derive(Clone)]
pub(crate) struct Arrived {
    /// Over which connection, or stream of one, it came.
    pub(crate) connection: Arc<Connection>,
    /// What it is part of.
    pub(crate) protocol: Spoken,
    /// When its first byte came.
    pub(crate) began: std::time::Instant,
    /// The rule that its head breaks.
    pub(crate) malformed: Option<Rule>,
    /// Where it leaves its tunnel; only a request has one that may become a tunnel.
    pub(crate) exit: Option<Exit>,
}

/// Where a request leaves its tunnel.
pub(crate) type Exit = Arc<Mutex<Option<Switched>>>;

/// One request.
pub(crate) struct RequestContext {
    /// Its record; before `connection`, because it asks that whether the request was cut.
    pub(super) recording: Recording,
    /// Who asks: one connection of a proxy carries requests of many clients.
    pub(super) client: Arc<Client>,
    /// What it asks for.
    pub(super) asked: Option<AskedHost>,
    /// What a trusted proxy says that the request came through.
    pub(super) told: Option<Box<Forwarded>>,
    /// Set once the circuit is found; dropped before the connection is idle again.
    pub(super) circuit: Option<(Arc<LiveCircuit>, OpenRequest)>,
    /// What opened the circuit.
    pub(super) pass: Pass,
    /// Which targets have been tried.
    pub(super) attempts: Attempts,
    /// The rule that its head breaks.
    pub(super) malformed: Option<Rule>,
    /// Where it leaves its tunnel.
    pub(super) exit: Option<Exit>,
    /// What is held back of its answer; dropping it gives the time back.
    held_back: Option<Box<Booking>>,
    /// How fast its content comes.
    pub(super) pace: Option<Pace>,
    /// Over which connection it came, and its number there.
    pub(super) busy: Busy,
}

/// What a trusted proxy says about how a request reached it.
pub(super) struct Forwarded {
    /// The scheme that the client used.
    pub(super) scheme: Option<Scheme>,
    /// The host that the client asked for.
    pub(super) host: Option<HeaderValue>,
    /// The port that the client connected to.
    pub(super) port: Option<u16>,
}

// === impl RequestContext ===

impl RequestContext {
    /// A request has come.
    pub(super) fn begin(arrived: Arrived, records: &Arc<Records>) -> Self {
        let Arrived { connection, protocol, began, malformed, exit } = arrived;
        let mut recording = records.begin(&connection, protocol);
        recording.times.head_read = Some(recording.times.began);
        recording.times.began = began;
        Self {
            attempts: Attempts::of(recording.id.clone()),
            recording,
            client: Arc::clone(&connection.client),
            asked: None,
            told: None,
            circuit: None,
            pass: Pass::Free,
            malformed,
            exit,
            held_back: None,
            pace: None,
            busy: Busy::begin(connection),
        }
    }

    /// The circuit, once it is found.
    pub(super) fn circuit(&self) -> Option<&LiveCircuit> {
        self.circuit.as_ref().map(|(circuit, _)| circuit.as_ref())
    }

    /// The connection that it came over.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.busy.connection
    }

    /// What it is called.
    pub(super) fn id(&self) -> &RequestId {
        &self.recording.id
    }

    /// The scheme that the client used: that of its connection, or what a trusted proxy says.
    pub(super) fn scheme(&self) -> Scheme {
        self.told.as_ref().and_then(|told| told.scheme).unwrap_or(self.connection().entrance.scheme())
    }

    /// The host that the client used: what it asked for, or what a trusted proxy says.
    pub(super) fn host(&self) -> Option<&HeaderValue> {
        let told = self.told.as_ref().and_then(|told| told.host.as_ref());
        told.or(self.asked.as_ref().map(|asked| &asked.value))
    }

    /// Whether the target gets the bearer token that opened the circuit.
    pub(super) fn forwards_token(&self) -> bool {
        let rules = self.circuit().and_then(|circuit| circuit.access.as_deref());
        self.pass == Pass::Token && rules.is_some_and(|rules| rules.forward_token)
    }

    /// A trusted proxy calls the request so.
    pub(super) fn rename(&mut self, id: RequestId) {
        self.attempts = Attempts::of(id.clone());
        self.recording.id = id;
    }

    /// A trusted proxy says this about the request.
    pub(super) fn note_origin(&mut self, origin: Origin) {
        let Origin { ip, is_hidden, scheme, host, port } = origin;
        if ip != self.client.ip || is_hidden {
            self.client = Arc::new(Client { is_hidden, ..Client::new(ip) });
            self.recording.client = ip;
        }
        self.told = Some(Box::new(Forwarded { scheme, host, port }));
    }

    /// The target has begun to answer.
    pub(super) fn note_answer(&mut self) {
        self.recording.first_byte();
        if let Some((circuit, _)) = &self.circuit {
            self.attempts.succeeded(&circuit.balancer);
        }
    }

    /// The request is being sent to a target at `socket`, which may take so long to answer as the circuit says.
    pub(super) fn wait_for_answer(&mut self, socket: RawFd) {
        self.recording.connected();
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
    pub(super) fn book(&mut self, way: Way, content: Option<&Bytes>) -> Option<Booking> {
        let length = content?.len();
        match way {
            Way::ToTarget => self.recording.bytes_to_target += length as u64,
            Way::ToClient => self.recording.bytes_to_client += length as u64,
        }
        self.circuit()?.bandwidth.as_ref()?.book(way, length)
    }

    /// How long a piece of the answer must wait.
    pub(super) fn hold_back(&mut self, content: Option<&Bytes>) -> Option<Duration> {
        self.held_back = self.book(Way::ToClient, content).map(Box::new);
        self.held_back.as_ref().map(|booking| booking.at().saturating_duration_since(Instant::now()))
    }

    /// The request has ended; `error` is what it failed with, if it did.
    pub(super) fn finish(mut self, session: &Session, error: Option<&Error>) {
        self.recording.status = reply::status(session).map(|status| status.as_u16());
        match error {
            // Answering the fault has said whose it was.
            Some(error) => self.recording.fail(error),
            None => self.recording.succeed(),
        }
    }

    /// Who waits, and how long. A socket that many streams share cannot be given up for one of them.
    fn answer_limit(&self) -> Option<(&Connection, Duration)> {
        let circuit = self.circuit()?;
        let limit = circuit.limits.first_byte.filter(|_| circuit.backend == Backend::Http)?;
        Some((&self.busy.connection, limit))
    }
}
