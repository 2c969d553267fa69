//! What the edge turns away: the one place that counts it and says so.
//!
//! Invariant: a refusal is always counted, and logged so seldom that whoever provokes refusals cannot fill a disk: as
//! many lines a second for each reason as [`program::sample`] grants, the next one with the number of those left out.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use entities::ids::CircuitKey;
use program::sample::Samples;

use crate::metrics::Metrics;
use crate::request_id::RequestId;

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
    samples: Samples<{ Refusal::WORDS.len() }>,
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
        Self { metrics, samples: Samples::default() }
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
        let Some(left_out) = self.samples.take_line(refusal as usize) else {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_word() {
        assert_eq!(Refusal::Memory as usize + 1, Refusal::WORDS.len());
        assert_eq!(Refusal::CrossOrigin.as_str(), "cross_origin");
    }
}
