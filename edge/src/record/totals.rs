//! The sink that counts.
//!
//! Invariant: what a record says is counted here and nowhere else.

use std::sync::Arc;

use super::{EndedBy, Record, Sink};
use crate::metrics::{CounterOf, metrics};
use crate::refusal::Reason;
use crate::words::words;

metrics! {
    /// How requests and relays ended.
    pub(crate) struct RecordMetrics {
        requests: CounterOf<CodeClass> = ("requests_total", "Requests by class of the answer"),
        refusals: CounterOf<Reason> = ("refusals_total", "What was turned away, by reason"),
        relay_ends: CounterOf<RelayEnd> = ("relay_ends_total", "Byte streams and tunnels that ended, by reason"),
    }
}

words! {
    /// Classes of answers.
    pub(crate) enum CodeClass in "code_class" {
        /// No answer was begun: the client had gone.
        None = "none",
        /// Informational, such as the 101 of a tunnel.
        Informational = "1xx",
        /// It worked.
        Success = "2xx",
        /// Look elsewhere.
        Redirection = "3xx",
        /// The client's fault.
        ClientError = "4xx",
        /// The server's fault.
        ServerError = "5xx",
    }
}

words! {
    /// How a byte stream or a tunnel ended.
    pub(crate) enum RelayEnd in "reason" {
        /// Both directions ended.
        Finished = "finished",
        /// It carried nothing for too long.
        Idle = "idle",
        /// It carried nothing for too long after one direction had ended.
        HalfOpen = "half_open",
        /// The client failed.
        Client = "client",
        /// The target failed.
        Target = "target",
        /// Its circuit, its target or the edge ended.
        Cut = "cut",
    }
}

/// Counts records.
pub(crate) struct Totals(pub(crate) Arc<RecordMetrics>);

// === impl Totals ===

impl Sink for Totals {
    fn take(&self, record: &Record) {
        let Self(metrics) = self;
        // A connection that was turned away before its first request has brought none.
        if record.status.is_some() || record.method.is_some() {
            metrics.requests.inc(CodeClass::of(record.status));
        }
        if let Some(reason) = record.refused.as_ref().and_then(|refused| refused.reason) {
            metrics.refusals.inc(reason);
        }
        if let Some(end) = RelayEnd::of(record) {
            metrics.relay_ends.inc(end);
        }
    }
}

// === impl CodeClass ===

impl CodeClass {
    fn of(status: Option<u16>) -> Self {
        match status.unwrap_or(0) {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::None,
        }
    }
}

// === impl RelayEnd ===

impl RelayEnd {
    /// How a relay ended; nothing if none was begun.
    fn of(record: &Record) -> Option<Self> {
        if !record.protocol.is_relayed() || record.times.connected.is_none() {
            return None;
        }
        Some(match record.ended_by {
            EndedBy::Finished => Self::Finished,
            EndedBy::Idle => Self::Idle,
            EndedBy::HalfOpen => Self::HalfOpen,
            EndedBy::Client => Self::Client,
            EndedBy::Target => Self::Target,
            EndedBy::Cut | EndedBy::Answered | EndedBy::Refused | EndedBy::Failed => Self::Cut,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::{Records, Spoken};
    use super::*;
    use crate::client::Client;
    use crate::connection::{Connection, Entrance};
    use crate::metrics::Metrics;
    use crate::refusal::Refused;
    use crate::reply::Problem;

    fn connection() -> Arc<Connection> {
        let client = Client::new(Ipv4Addr::LOCALHOST.into());
        Arc::new(Connection::new(Entrance::TRAFFIC, client))
    }

    #[test]
    fn a_request_counts_by_the_class_of_its_answer() {
        let metrics = RecordMetrics::register(&Metrics::default()).expect("valid names");
        let records = Records::new(vec![Box::new(Totals(Arc::clone(&metrics)))]);
        for status in [None, Some(101), Some(204), Some(503), Some(599), Some(999)] {
            let mut recording = records.begin(&connection(), Spoken::Http1);
            recording.method = Some(http::Method::GET);
            recording.status = status;
        }
        let counts = [
            (CodeClass::None, 2),
            (CodeClass::Informational, 1),
            (CodeClass::Success, 1),
            (CodeClass::Redirection, 0),
            (CodeClass::ClientError, 0),
            (CodeClass::ServerError, 2),
        ];
        for (class, count) in counts {
            assert_eq!(metrics.requests.get(class), count, "{class:?}");
        }
    }

    #[test]
    fn what_was_turned_away_before_it_spoke_is_no_request_and_what_had_no_target_no_relay() {
        let metrics = RecordMetrics::register(&Metrics::default()).expect("valid names");
        let records = Records::new(vec![Box::new(Totals(Arc::clone(&metrics)))]);
        records.turn_away(&connection(), Spoken::Nothing, Refused::plainly(Problem::ProxyProtocol));
        records.turn_away(&connection(), Spoken::Bytes, Refused::plainly(Problem::ClientNotAllowed));
        assert_eq!(metrics.refusals.get(Reason::ProxyProtocol), 1);
        assert_eq!(metrics.refusals.get(Reason::ClientAddress), 1);
        assert_eq!(metrics.requests.get(CodeClass::None), 0);
        assert_eq!(metrics.relay_ends.get(RelayEnd::Cut), 0);
    }
}
