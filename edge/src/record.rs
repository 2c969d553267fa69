//! What is known about one request or relay when it ends, and who is told.
//!
//! Whatever ends (an exchange, a tunnel, a byte stream, a connection that was turned away) has one [`Recording`]. It is
//! filled on the way and handed to all sinks once, when it is dropped.
//!
//! Invariant: one record for each end, however it ends. Nothing of a query stands in a record, because queries hold tickets
//! and tokens.

mod log;
mod path;
mod times;
mod totals;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use entities::ids::CircuitKey;
use entities::target::Target;
use http::{HeaderValue, Method};

use crate::connection::{Connection, Entrance};
use crate::refusal::{Fault, Refused};
use crate::reply::Problem;
use crate::request_id::RequestId;
use crate::words::words;
pub(crate) use log::Log;
pub(crate) use path::RedactedPath;
pub(crate) use times::Times;
pub(crate) use totals::{RecordMetrics, Totals};

/// Sinks of one edge: the counters, the log, and what later issues add. Each costs every request time.
const MAX_SINKS: usize = 8;

/// One ended request or relay.
#[derive(Debug)]
pub(crate) struct Record {
    /// What it is called in answers, logs and towards its target.
    pub(crate) id: RequestId,
    /// The circuit, if one was found.
    pub(crate) circuit: Option<CircuitKey>,
    /// Who asked.
    pub(crate) client: IpAddr,
    /// Where the client came in.
    pub(crate) entrance: Entrance,
    /// The target of the last attempt.
    pub(crate) target: Option<Arc<Target>>,
    /// What the client spoke.
    pub(crate) protocol: Spoken,
    /// The method, if there was a request.
    pub(crate) method: Option<Method>,
    /// The host that the client asked for.
    pub(crate) host: Option<HeaderValue>,
    /// The path that the client asked for.
    pub(crate) path: Option<RedactedPath>,
    /// The status of the answer, if one was begun.
    pub(crate) status: Option<u16>,
    /// Bytes of content, or of a relay, that went to the target.
    pub(crate) bytes_to_target: u64,
    /// Bytes of content, or of a relay, that went to the client.
    pub(crate) bytes_to_client: u64,
    /// Attempts at targets after the first one.
    pub(crate) retries: u8,
    /// When it came, and when it got how far.
    pub(crate) times: Times,
    /// What ended it.
    pub(crate) ended_by: EndedBy,
    /// Whose fault that was, if it was one.
    pub(crate) fault: Option<Fault>,
    /// Why it was turned away, if it was.
    pub(crate) refused: Option<Box<Refused>>,
    /// What went wrong, for the log.
    pub(crate) error: Option<Box<str>>,
}

words! {
    /// What a client spoke.
    pub(crate) enum Spoken in "protocol" {
        /// Nothing yet: the connection was turned away before.
        Nothing = "none",
        /// HTTP/1.0 or HTTP/1.1.
        Http1 = "http1",
        /// A stream of HTTP/2.
        Http2 = "http2",
        /// A protocol that HTTP/1.1 was upgraded to, such as WebSocket.
        Upgraded = "upgraded",
        /// Bytes that nobody looks into.
        Bytes = "bytes",
    }
}

words! {
    /// What ended a request or a relay.
    pub(crate) enum EndedBy in "ended_by" {
        /// All of it has passed.
        Finished = "finished",
        /// The edge has answered what it was asked itself.
        Answered = "answered",
        /// The edge turned it away.
        Refused = "refused",
        /// The client broke off, or took too long.
        Client = "client",
        /// The target broke off, took too long, or could not be reached.
        Target = "target",
        /// Nothing was carried for too long.
        Idle = "idle",
        /// Nothing was carried for too long after one direction had ended.
        HalfOpen = "half_open",
        /// The circuit, its target or the edge ended while it was open.
        Cut = "cut",
        /// The edge failed.
        Failed = "failed",
    }
}

/// Who is told about ended requests. It is told on the way of a request, so it must not wait for anything.
pub(crate) trait Sink: Send + Sync {
    /// This has ended.
    fn take(&self, record: &Record);
}

/// All sinks of an edge.
pub(crate) struct Records {
    sinks: Box<[Box<dyn Sink>]>,
}

/// A record that is being filled.
pub(crate) struct Recording {
    record: Record,
    records: Arc<Records>,
    /// Says, where nobody else does, whether it was cut or the client went.
    connection: Arc<Connection>,
    has_end: bool,
}

// === impl Spoken ===

impl Spoken {
    /// Whether it is carried without being understood.
    pub(crate) fn is_relayed(self) -> bool {
        matches!(self, Self::Upgraded | Self::Bytes)
    }
}

// === impl Records ===

impl Records {
    /// Tells these sinks, the first [`MAX_SINKS`] of them.
    pub(crate) fn new(sinks: Vec<Box<dyn Sink>>) -> Arc<Self> {
        let mut sinks = sinks;
        if sinks.len() > MAX_SINKS {
            tracing::error!(
                sinks = sinks.len(),
                limit = MAX_SINKS,
                "too many sinks of records, the last ones are left out"
            );
            sinks.truncate(MAX_SINKS);
        }
        Arc::new(Self { sinks: sinks.into() })
    }

    /// Begins the record of something that came over `connection`.
    pub(crate) fn begin(self: &Arc<Self>, connection: &Arc<Connection>, protocol: Spoken) -> Recording {
        let record = Record {
            id: RequestId::next(),
            circuit: None,
            client: connection.client.ip,
            entrance: connection.entrance,
            target: None,
            protocol,
            method: None,
            host: None,
            path: None,
            status: None,
            bytes_to_target: 0,
            bytes_to_client: 0,
            retries: 0,
            times: Times::now(),
            ended_by: EndedBy::Cut,
            fault: None,
            refused: None,
            error: None,
        };
        let connection = Arc::clone(connection);
        Recording { record, records: Arc::clone(self), connection, has_end: false }
    }

    /// Records something that was turned away before there was anything to fill a record with.
    pub(crate) fn turn_away(self: &Arc<Self>, connection: &Arc<Connection>, protocol: Spoken, refused: Refused) {
        self.begin(connection, protocol).refuse(refused);
    }
}

// === impl Recording ===

impl Recording {
    /// It is turned away. A first refusal stands.
    pub(crate) fn refuse(&mut self, refused: Refused) {
        let record = &mut self.record;
        if record.refused.is_none() {
            self.has_end = true;
            record.fault = Some(refused.fault());
            record.ended_by = match refused.problem {
                Problem::TargetUnreachable | Problem::TargetTimeout | Problem::Starting => EndedBy::Target,
                Problem::BodyTimeout | Problem::WriteTimeout | Problem::HeadTimeout => EndedBy::Client,
                Problem::Internal => EndedBy::Failed,
                _ => EndedBy::Refused,
            };
            record.refused = Some(Box::new(refused));
        }
    }

    /// It ends so, unless it was turned away.
    pub(crate) fn end(&mut self, ended_by: EndedBy, fault: Option<Fault>) {
        if self.record.refused.is_none() {
            self.has_end = true;
            self.record.ended_by = ended_by;
            self.record.fault = fault;
        }
    }

    /// All of it has passed, unless something else is known.
    pub(crate) fn succeed(&mut self) {
        if !self.has_end {
            self.end(EndedBy::Finished, None);
        }
    }

    /// It has failed with this error; who is to blame is known already, or nobody is.
    pub(crate) fn fail(&mut self, error: &dyn std::fmt::Display) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.record.error = Some(error.to_string().into());
        }
    }

    /// Its head is whole, and its first byte came at `began`.
    pub(crate) fn head_read(&mut self, began: Instant) {
        let times = &mut self.record.times;
        times.head_read = Some(times.began);
        times.began = began;
    }

    /// The attempt with this number, counted from 1, goes to `target`.
    pub(crate) fn chose(&mut self, target: &Arc<Target>, number: u8) {
        let record = &mut self.record;
        record.target = Some(Arc::clone(target));
        record.retries = number.saturating_sub(1);
        record.times.chosen = Some(Instant::now());
    }

    /// The connection to the target stands.
    pub(crate) fn connected(&mut self) {
        self.record.times.connected = Some(Instant::now());
    }

    /// The target has begun to answer.
    pub(crate) fn first_byte(&mut self) {
        self.record.times.first_byte.get_or_insert_with(Instant::now);
    }

    /// Lets go of the memory that the head of a request came in: relays live for days.
    pub(crate) fn compact(&mut self) {
        let record = &mut self.record;
        record.path = record.path.take().map(RedactedPath::compacted);
        record.host = record.host.take().and_then(|host| HeaderValue::from_bytes(host.as_bytes()).ok());
    }
}

impl std::ops::Deref for Recording {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl std::ops::DerefMut for Recording {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.record
    }
}

impl Drop for Recording {
    /// Hands the record over. What was given up in the middle was cut, or its client went.
    fn drop(&mut self) {
        if !self.has_end && !self.connection.is_cut() {
            (self.record.ended_by, self.record.fault) = (EndedBy::Client, Some(Fault::Client));
        }
        self.record.times.end();
        for sink in &self.records.sinks {
            sink.take(&self.record);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use parking_lot::Mutex;

    use super::*;
    use crate::client::Client;
    use crate::connection::Notice;

    /// Keeps the ends of all records.
    #[derive(Clone, Default)]
    pub(crate) struct Ends(Arc<Mutex<Vec<End>>>);

    type End = (EndedBy, Option<Fault>);

    impl Sink for Ends {
        fn take(&self, record: &Record) {
            self.0.lock().push((record.ended_by, record.fault));
        }
    }

    impl Ends {
        pub(crate) fn records(&self) -> Arc<Records> {
            Records::new(vec![Box::new(self.clone())])
        }

        pub(crate) fn all(&self) -> Vec<End> {
            self.0.lock().clone()
        }
    }

    fn connection() -> Arc<Connection> {
        let client = Client::new(Ipv4Addr::LOCALHOST.into());
        Arc::new(Connection::new(Entrance::TRAFFIC, client))
    }

    fn begin(ends: &Ends) -> Recording {
        ends.records().begin(&connection(), Spoken::Http1)
    }

    #[test]
    fn a_record_is_handed_over_once_however_it_ends() {
        let (ends, connection) = (Ends::default(), connection());
        let mut recording = begin(&ends);
        recording.end(EndedBy::Finished, None);
        drop(recording);
        drop(ends.records().begin(&connection, Spoken::Http1));
        connection.notify(Notice::Cut);
        drop(ends.records().begin(&connection, Spoken::Http1));
        let wanted = [(EndedBy::Finished, None), (EndedBy::Client, Some(Fault::Client)), (EndedBy::Cut, None)];
        assert_eq!(ends.all(), wanted);
    }

    #[test]
    fn a_refusal_says_how_it_ends_and_nothing_that_follows_changes_that() {
        let ends = Ends::default();
        for (problem, ended_by, fault) in [
            (Problem::UnknownAddress, EndedBy::Refused, Fault::Client),
            (Problem::TargetTimeout, EndedBy::Target, Fault::Target),
            (Problem::BodyTimeout, EndedBy::Client, Fault::Client),
            (Problem::Internal, EndedBy::Failed, Fault::Edge),
        ] {
            let mut recording = begin(&ends);
            recording.refuse(Refused::plainly(problem));
            recording.refuse(Refused::plainly(Problem::NoTarget));
            recording.end(EndedBy::Finished, None);
            drop(recording);
            assert_eq!(ends.all().last(), Some(&(ended_by, Some(fault))), "{problem:?}");
        }
    }

    #[test]
    fn there_are_no_more_sinks_than_the_limit() {
        let ends = Ends::default();
        let sinks = (0..=MAX_SINKS).map(|_| Box::new(ends.clone()) as Box<dyn Sink>).collect();
        drop(Records::new(sinks).begin(&connection(), Spoken::Bytes));
        assert_eq!(ends.all().len(), MAX_SINKS);
    }
}
