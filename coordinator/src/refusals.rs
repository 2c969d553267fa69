//! What the API turns away: the one place that counts it and says so.
//!
//! Invariant: a refusal is always counted, and logged so seldom that whoever provokes refusals cannot fill a disk: at
//! most [`LINES_PER_SECOND`] lines a second for each reason, the next one with the number of those left out.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::metrics::Metrics;

/// Lines of the log for each reason and second.
const LINES_PER_SECOND: u64 = 5;

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
    began: Instant,
    samples: [Sample; Refusal::WORDS.len()],
}

/// How many lines a reason may still have.
#[derive(Debug, Default)]
struct Sample {
    second: AtomicU64,
    lines: AtomicU64,
    left_out: AtomicU64,
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
        Self { metrics, began: Instant::now(), samples: Default::default() }
    }

    /// Something of `client` was turned away, who showed the key `key`; `detail` repeats no secret.
    pub(crate) fn note(&self, refusal: Refusal, client: IpAddr, key: Option<&str>, detail: impl fmt::Display) {
        self.metrics.api_refusals_total.with_label_values(&[refusal.as_str()]).inc();
        let second = self.began.elapsed().as_secs();
        let Some(left_out) = self.samples.get(refusal as usize).and_then(|sample| sample.take_line(second)) else {
            return;
        };
        tracing::info!(reason = refusal.as_str(), %client, key, %detail, left_out, fault = "client", "turned away");
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
        assert_eq!(Refusal::WriteTimeout as usize + 1, Refusal::WORDS.len());
        assert_eq!(Refusal::of_code("wrong_scope"), Some(Refusal::WrongScope));
        assert_eq!(Refusal::of_code("malformed"), None, "that is nothing that is answered");
    }
}
