//! How long things may take on the traffic of one circuit.
//!
//! Invariant: what the circuit does not say is as the edge is configured; zero means for ever.

use std::time::Duration;

use entities::circuit::{Backend, Timeouts};

/// How long content that its target did not want may still come, before the connection ends instead.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(30);

/// How long content may come at any pace where its silence is not limited.
pub(crate) const CONTENT_GRACE: Duration = Duration::from_secs(60);

/// How long a write to a client may wait before that client counts as one that has stopped reading.
pub(crate) const STALL_TIME: Duration = Duration::from_secs(5);

/// Time limits of one circuit, or of the edge for circuits that say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// How long connecting to one target may take, the look-up of its name included.
    pub connect: Duration,
    /// How long an HTTP target may take to begin its answer.
    pub first_byte: Option<Duration>,
    /// How long a relayed connection may carry nothing in either direction.
    pub idle: Option<Duration>,
    /// How long open connections go on after their circuit was closed or their target was taken away.
    pub drain: Duration,
}

// === impl TimeLimits ===

impl TimeLimits {
    /// The limits of a circuit that says `timeouts`, at an edge with these limits.
    #[must_use]
    pub(crate) fn with(self, timeouts: Timeouts, backend: Backend) -> Self {
        let milliseconds = |number: u32| Duration::from_millis(number.into());
        let first_byte = match (timeouts.first_byte_ms, backend) {
            (Some(number), _) => unless_zero(milliseconds(number)),
            (None, Backend::Http) => self.first_byte,
            // Streams of gRPC may be silent for long, and their clients set deadlines.
            (None, Backend::H2 | Backend::Tcp) => None,
        };
        Self {
            connect: timeouts.connect_ms.map_or(self.connect, milliseconds),
            first_byte,
            drain: timeouts.drain_s.map_or(self.drain, |number| Duration::from_secs(number.into())),
            idle: timeouts.idle_s.map_or(self.idle, |number| unless_zero(Duration::from_secs(number.into()))),
        }
    }
}

/// A limit as it is written down: zero is for ever.
pub(crate) fn unless_zero(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_circuit_does_not_say_is_as_the_edge_has_it() {
        let second = Duration::from_secs(1);
        let edge = TimeLimits { connect: second, first_byte: Some(second), idle: Some(second), drain: second };
        assert_eq!(edge.with(Timeouts::default(), Backend::Http), edge);
        assert_eq!(edge.with(Timeouts::default(), Backend::H2).first_byte, None);
        let timeouts = Timeouts { connect_ms: Some(5), first_byte_ms: Some(0), idle_s: Some(7), drain_s: Some(9) };
        let wanted = TimeLimits {
            connect: Duration::from_millis(5),
            first_byte: None,
            idle: Some(Duration::from_secs(7)),
            drain: Duration::from_secs(9),
        };
        assert_eq!(edge.with(timeouts, Backend::Http), wanted);
    }
}
