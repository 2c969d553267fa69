//! What the API turns away: the one place that counts it and says so.
//!
//! Invariant: a refusal is always counted, and logged so seldom that whoever provokes refusals cannot fill a disk: as
//! many lines a second for each reason as [`program::sample`] grants, the next one with the number of those left out.

use std::fmt;
use std::net::IpAddr;

use program::sample::Samples;

use crate::metrics::Metrics;

/// Why something was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Refusal {
    /// No key, or a wrong one.
    Unauthorized,
    /// The key may not do this.
    WrongScope,
    /// The worker key may not serve this authority.
    WrongAuthority,
    /// Plain HTTP where TLS is required.
    TlsRequired,
    /// Too many requests at the same time.
    Overloaded,
    /// The body did not come in time.
    BodyTimeout,
    /// The answer took too long.
    RequestTimeout,
    /// Too many connections.
    Connections,
    /// Too many connections of one client.
    ClientConnections,
    /// The head did not come in time.
    HeadTimeout,
    /// The head is too long, or has too many fields.
    HeadTooLarge,
    /// The bytes are no request.
    Malformed,
    /// The answer was not taken in time.
    WriteTimeout,
}

/// Counts and logs refusals.
#[derive(Debug)]
pub(crate) struct Refusals {
    metrics: Metrics,
    samples: Samples<{ Refusal::WORDS.len() }>,
}

// === impl Refusal ===

impl Refusal {
    /// The words in logs, in the label `reason` and, of those that are answered, in `code`; in the order of the variants.
    pub(crate) const WORDS: [&str; 13] = [
        "unauthorized",
        "wrong_scope",
        "wrong_authority",
        "tls_required",
        "overloaded",
        "body_timeout",
        "request_timeout",
        "connections",
        "client_connections",
        "head_timeout",
        "head_too_large",
        "malformed",
        "write_timeout",
    ];

    const ANSWERED: [Self; 7] = [
        Self::Unauthorized,
        Self::WrongScope,
        Self::WrongAuthority,
        Self::TlsRequired,
        Self::Overloaded,
        Self::BodyTimeout,
        Self::RequestTimeout,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS.get(self as usize).copied().unwrap_or_default()
    }

    /// The refusal that a problem's code means, if it means one.
    pub(crate) fn of_code(code: &str) -> Option<Self> {
        Self::ANSWERED.into_iter().find(|refusal| refusal.as_str() == code)
    }
}

// === impl Refusals ===

impl Refusals {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { metrics, samples: Samples::default() }
    }

    /// Something of `client` was turned away, who showed the key `key`; `detail` repeats no secret.
    pub(crate) fn note(&self, refusal: Refusal, client: IpAddr, key: Option<&str>, detail: impl fmt::Display) {
        self.metrics.api_refusals_total.with_label_values(&[refusal.as_str()]).inc();
        let Some(left_out) = self.samples.take_line(refusal as usize) else {
            return;
        };
        tracing::info!(reason = refusal.as_str(), %client, key, %detail, left_out, fault = "client", "turned away");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_word() {
        assert_eq!(Refusal::WriteTimeout as usize + 1, Refusal::WORDS.len());
        assert_eq!(Refusal::of_code("wrong_scope"), Some(Refusal::WrongScope));
        assert_eq!(Refusal::of_code("malformed"), None, "that is nothing that is answered");
    }
}
