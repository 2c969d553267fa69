//! What the edge turns away: the one place that counts it and says so.
//!
//! Invariant: a refusal is always counted, and logged so seldom that whoever provokes refusals cannot fill a disk: at
//! most [`LINES_PER_SECOND`] lines a second for each reason, the next one with the number of those left out.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use entities::ids::CircuitKey;

use crate::metrics::Metrics;
use crate::request_id::RequestId;

/// Lines of the log for each reason and second.
const LINES_PER_SECOND: u64 = 5;

/// Why something was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Refusal {
    /// The client's address is not among those that the circuit allows.
    ClientAddress,
    /// The circuit is private, and nothing was shown that opens it.
    NoCredential,
    /// What was shown does not open the circuit: forged, expired, revoked, or of another one.
    BadCredential,
    /// The cookie is right, but another site made the browser send it.
    CrossOrigin,
    /// The client is at the other end of too many connections already.
    ClientConnections,
    /// The circuit has too many connections already.
    CircuitConnections,
    /// The bytes are no head that HTTP allows.
    Malformed,
    /// The head is too long, or has too many fields.
    HeadTooLarge,
    /// The head did not come in time.
    HeadTimeout,
    /// The content did not come in time.
    BodyTimeout,
    /// The client did not take the answer in time.
    WriteTimeout,
    /// The client broke the rules of HTTP/2, or tired the edge with what they allow.
    Http2Abuse,
    /// The PROXY protocol header is missing or malformed.
    ProxyProtocol,
    /// The circuit takes no more requests at this rate.
    RateLimit,
    /// The process has little memory left.
    Memory,
}

/// Counts and logs refusals.
pub(crate) struct Refusals {
    metrics: Arc<Metrics>,
    began: Instant,
    samples: [Sample; Refusal::WORDS.len()],
}

/// How many lines a reason may still have.
#[derive(Default)]
struct Sample {
    second: AtomicU64,
    lines: AtomicU64,
    left_out: AtomicU64,
}

// === impl Refusal ===

impl Refusal {
    /// The words in logs and in the label `reason`, in the order of the variants.
    pub(crate) const WORDS: [&str; 15] = [
        "client_address",
        "no_credential",
        "bad_credential",
        "cross_origin",
        "client_connections",
        "circuit_connections",
        "malformed",
        "head_too_large",
        "head_timeout",
        "body_timeout",
        "write_timeout",
        "http2_abuse",
        "proxy_protocol",
        "rate_limit",
        "memory",
    ];

    /// The word in logs and labels.
    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS.get(self as usize).copied().unwrap_or_default()
    }
}

// === impl Refusals ===

impl Refusals {
    /// Counts in `metrics`.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, began: Instant::now(), samples: Default::default() }
    }

    /// Something of `client` was turned away; `detail` says what was wrong with it and repeats no secret.
    pub(crate) fn note(
        &self,
        refusal: Refusal,
        client: IpAddr,
        circuit: Option<&CircuitKey>,
        detail: impl fmt::Display,
    ) {
        self.note_as(refusal, client, circuit, None, &detail);
    }

    /// The same of a request with a name.
    pub(crate) fn note_request(
        &self,
        refusal: Refusal,
        client: IpAddr,
        circuit: Option<&CircuitKey>,
        request: &RequestId,
        detail: impl fmt::Display,
    ) {
        self.note_as(refusal, client, circuit, Some(request), &detail);
    }

    fn note_as(
        &self,
        refusal: Refusal,
        client: IpAddr,
        circuit: Option<&CircuitKey>,
        request: Option<&RequestId>,
        detail: &dyn fmt::Display,
    ) {
        self.metrics.count_refusal(refusal);
        let second = self.began.elapsed().as_secs();
        let Some(left_out) = self.samples.get(refusal as usize).and_then(|sample| sample.take_line(second)) else {
            return;
        };
        tracing::info!(
            reason = refusal.as_str(),
            request = request.map(tracing::field::display),
            %client,
            key = circuit.map(CircuitKey::as_str),
            detail = %detail,
            left_out,
            fault = "client",
            "turned away"
        );
    }
}

// === impl Sample ===

impl Sample {
    /// Whether there may be another line in `second`, and how many were left out since the last one.
    fn take_line(&self, second: u64) -> Option<u64> {
        // Threads that meet at the turn of a second may grant each other a few lines more.
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines.store(0, Ordering::Relaxed);
        }
        if self.lines.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_a_few_lines_a_second_and_none_is_forgotten() {
        let sample = Sample::default();
        let lines: Vec<Option<u64>> = (0..LINES_PER_SECOND + 7).map(|_| sample.take_line(3)).collect();
        assert_eq!(lines.iter().flatten().count() as u64, LINES_PER_SECOND);
        assert_eq!(sample.take_line(4), Some(7));
        assert_eq!(sample.take_line(4), Some(0));
    }

    #[test]
    fn every_refusal_has_a_word() {
        assert_eq!(Refusal::Memory as usize + 1, Refusal::WORDS.len());
        assert_eq!(Refusal::CrossOrigin.as_str(), "cross_origin");
    }
}
