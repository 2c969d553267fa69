//! What is known about one request while it is served.
//!
//! Invariant: from its creation to its drop, the connection counts as busy; a dropped context leaves nothing behind but
//! its record, however the request ended.

use std::fmt::Write as _;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entities::authority::Scheme;
use entities::circuit::Backend;
use entities::host::split_host_header;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::asked::AskedHost;
use crate::access::Pass;
use crate::balance::Attempts;
use crate::circuit::{LiveCircuit, OpenRequest};
use crate::client::{Client, Origin};
use crate::connection::{Busy, Connection, EntrancePort};
use crate::guard::{Pace, Rule};
use crate::rate::{Booking, Way};
use crate::record::Recording;
use crate::reply::Problem;
use crate::request_id::RequestId;
use crate::tunnel::Switched;

/// What the door knows about a request. It is carried through pingora to the phases of the request; if it never arrives there,
/// the record goes its way all the same.
pub(crate) struct Arrived {
    /// Its record.
    pub(crate) recording: Recording,
    /// Over which connection, or stream of one, it came.
    pub(crate) connection: Arc<Connection>,
    /// The rule that its head breaks.
    pub(crate) malformed: Option<Rule>,
    /// Where it leaves its tunnel; only a request has one that may become a tunnel.
    pub(crate) exit: Option<Exit>,
}

/// The same as a field of the head of a stream of HTTP/2, which has to be shared.
#[derive(Clone)]
pub(crate) struct ArrivedStream(Arc<Mutex<Option<Arrived>>>);

/// Where a request leaves its tunnel.
pub(crate) type Exit = Arc<Mutex<Option<Switched>>>;

/// One request.
pub(crate) struct RequestContext {
    /// Its record; before `connection`, because it asks that whether the request was cut.
    pub(crate) recording: Recording,
    /// Who asks: one connection of a proxy carries requests of many clients.
    pub(crate) client: Arc<Client>,
    /// What it asks for.
    pub(crate) asked: Option<AskedHost>,
    /// What a trusted proxy says that the request came through.
    pub(crate) told: Option<Box<Forwarded>>,
    /// Set once the circuit is found; dropped before the connection is idle again.
    pub(crate) circuit: Option<(Arc<LiveCircuit>, OpenRequest)>,
    /// What opened the circuit.
    pub(crate) pass: Pass,
    /// Which targets have been tried.
    pub(crate) attempts: Attempts,
    /// The rule that its head breaks.
    pub(crate) malformed: Option<Rule>,
    /// Where it leaves its tunnel.
    pub(crate) exit: Option<Exit>,
    /// What is held back of its answer; dropping it gives the time back.
    held_back: Option<Box<Booking>>,
    /// How fast its content comes.
    pub(crate) pace: Option<Pace>,
    /// Over which connection it came, and its number there.
    pub(crate) busy: Busy,
}

/// What a trusted proxy says about how a request reached it.
pub(crate) struct Forwarded {
    /// The scheme that the client used.
    pub(crate) scheme: Option<Scheme>,
    /// The host that the client asked for.
    pub(crate) host: Option<HeaderValue>,
    /// The port that the client connected to.
    pub(crate) port: Option<u16>,
}

// === impl ArrivedStream ===

impl ArrivedStream {
    /// Carries `arrived`.
    pub(crate) fn new(arrived: Arrived) -> Self {
        Self(Arc::new(Mutex::new(Some(arrived))))
    }

    /// What it carries, once.
    pub(crate) fn take(&self) -> Option<Arrived> {
        self.0.lock().take()
    }
}

// === impl RequestContext ===

impl RequestContext {
    /// A request has come.
    pub(crate) fn begin(arrived: Arrived) -> Self {
        let Arrived { recording, connection, malformed, exit } = arrived;
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

    /// The request goes to another engine, which begins anew.
    pub(crate) fn into_arrived(self) -> Arrived {
        let Self { recording, malformed, exit, busy, .. } = self;
        Arrived { recording, connection: Arc::clone(&busy.connection), malformed, exit }
    }

    /// The circuit, once it is found.
    pub(crate) fn circuit(&self) -> Option<&LiveCircuit> {
        self.circuit.as_ref().map(|(circuit, _)| circuit.as_ref())
    }

    /// The connection that it came over.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.busy.connection
    }

    /// Whether the connection ends with an answer that says this: it is to end anyway, or nothing else will ever be served at the
    /// port of a circuit that is gone.
    pub(crate) fn must_close_for(&self, problem: Problem) -> bool {
        let connection = self.connection();
        let is_gone =
            matches!(connection.entrance.port, EntrancePort::Circuit(_)) && problem == Problem::UnknownAddress;
        is_gone || connection.is_ending()
    }

    /// What it is called.
    pub(crate) fn id(&self) -> &RequestId {
        &self.recording.id
    }

    /// The scheme that the client used: that of its connection, or what a trusted proxy says.
    pub(crate) fn scheme(&self) -> Scheme {
        self.told.as_ref().and_then(|told| told.scheme).unwrap_or(self.connection().entrance.scheme())
    }

    /// The host that the client used: what it asked for, or what a trusted proxy says.
    pub(crate) fn host(&self) -> Option<&HeaderValue> {
        let told = self.told.as_ref().and_then(|told| told.host.as_ref());
        told.or(self.asked.as_ref().map(|asked| &asked.value))
    }

    /// The port that the client connected to, as far as a trusted proxy says anything about that.
    pub(crate) fn forwarded_port(&self) -> Option<u16> {
        let told = self.told.as_deref()?;
        told.port.or_else(|| {
            let named = match &told.host {
                Some(host) => host.to_str().ok().and_then(split_host_header).and_then(|(_, port)| port),
                None => self.asked.as_ref().and_then(|asked| asked.port),
            };
            Some(named.unwrap_or(told.scheme?.default_port()))
        })
    }

    /// The element of `Forwarded` that says whom the request is from.
    pub(crate) fn forwarded(&self) -> String {
        forwarded(&self.client, self.host(), self.scheme())
    }

    /// Whether the target gets the bearer token that opened the circuit.
    pub(crate) fn forwards_token(&self) -> bool {
        let rules = self.circuit().and_then(|circuit| circuit.access.as_deref());
        self.pass == Pass::Token && rules.is_some_and(|rules| rules.forward_token)
    }

    /// A trusted proxy calls the request so.
    pub(crate) fn rename(&mut self, id: RequestId) {
        self.attempts = Attempts::of(id.clone());
        self.recording.id = id;
    }

    /// A trusted proxy says this about the request.
    pub(crate) fn note_origin(&mut self, origin: Origin) {
        let Origin { ip, is_hidden, scheme, host, port } = origin;
        if ip != self.client.ip || is_hidden {
            self.client = Arc::new(Client { is_hidden, ..Client::new(ip) });
            self.recording.client = ip;
        }
        self.told = Some(Box::new(Forwarded { scheme, host, port }));
    }

    /// The target has begun to answer.
    pub(crate) fn note_answer(&mut self) {
        self.recording.first_byte();
        if let Some((circuit, _)) = &self.circuit {
            self.attempts.succeeded(&circuit.balancer);
        }
    }

    /// The request is being sent to a target at `socket`, which may take so long to answer as the circuit says.
    pub(crate) fn wait_for_answer(&mut self, socket: RawFd) {
        self.recording.connected();
        if let Some((connection, limit)) = self.answer_limit() {
            connection.answer.start(Instant::now() + limit, socket);
        }
    }

    /// More of the request is on its way; it is sent `at` that time.
    pub(crate) fn go_on_waiting(&self, at: Option<Instant>) {
        if let Some((connection, limit)) = self.answer_limit() {
            connection.answer.extend(at.unwrap_or_else(Instant::now) + limit);
        }
    }

    /// Books the time of a piece of content; nothing if it may pass at once.
    pub(crate) fn book(&mut self, way: Way, content: Option<&Bytes>) -> Option<Booking> {
        let length = content?.len();
        match way {
            Way::ToTarget => self.recording.bytes_to_target += length as u64,
            Way::ToClient => self.recording.bytes_to_client += length as u64,
        }
        self.circuit()?.bandwidth.as_ref()?.book(way, length)
    }

    /// How long a piece of the answer must wait.
    pub(crate) fn hold_back(&mut self, content: Option<&Bytes>) -> Option<Duration> {
        self.held_back = self.book(Way::ToClient, content).map(Box::new);
        self.held_back.as_ref().map(|booking| booking.at().saturating_duration_since(Instant::now()))
    }

    /// Who waits, and how long. A socket that many streams share cannot be given up for one of them.
    fn answer_limit(&self) -> Option<(&Connection, Duration)> {
        let circuit = self.circuit()?;
        let limit = circuit.limits.first_byte.filter(|_| circuit.backend == Backend::Http)?;
        Some((&self.busy.connection, limit))
    }
}

/// One element of `Forwarded` (RFC 7239 §4). A host with a port is no token and has to be quoted.
fn forwarded(client: &Client, host: Option<&HeaderValue>, scheme: Scheme) -> String {
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut element = String::with_capacity(32 + client.node.len() + host.len());
    // Writing to a string does not fail, and `look_up` has let only hosts through that need no escape.
    let _ = match host {
        "" => write!(element, "for={};proto={}", client.node, scheme.as_str()),
        _ if host.contains([':', '[']) => {
            write!(element, "for={};host=\"{host}\";proto={}", client.node, scheme.as_str())
        }
        _ => write!(element, "for={};host={host};proto={}", client.node, scheme.as_str()),
    };
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(ip: &str, host: Option<&'static str>) -> String {
        let client = Client::new(ip.parse().expect("valid"));
        forwarded(&client, host.map(HeaderValue::from_static).as_ref(), Scheme::Https)
    }

    #[test]
    fn hosts_with_ports_and_ipv6_nodes_are_quoted() {
        assert_eq!(element("10.0.0.1", Some("lab.test")), "for=10.0.0.1;host=lab.test;proto=https");
        assert_eq!(element("10.0.0.1", Some("lab.test:80")), "for=10.0.0.1;host=\"lab.test:80\";proto=https");
        assert_eq!(element("::1", Some("[::1]")), "for=\"[::1]\";host=\"[::1]\";proto=https");
        assert_eq!(element("10.0.0.1", None), "for=10.0.0.1;proto=https");
    }
}
