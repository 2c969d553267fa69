//! When a request or a relay got how far.
//!
//! Invariant: each moment is noted once, in the order of the fields; a retry moves those that depend on the target.

use std::time::{Duration, Instant};

/// The moments of one request. What was not reached has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Its first byte came, or its connection.
    pub(crate) began: Instant,
    /// Its head was whole.
    pub(crate) head_read: Option<Instant>,
    /// A target was chosen.
    pub(crate) chosen: Option<Instant>,
    /// A connection to the target stood.
    pub(crate) connected: Option<Instant>,
    /// The first byte of the answer came.
    pub(crate) first_byte: Option<Instant>,
    /// It ended.
    pub(crate) ended: Option<Instant>,
}

// === impl Times ===

impl Times {
    /// It begins now.
    pub(crate) fn now() -> Self {
        Self { began: Instant::now(), head_read: None, chosen: None, connected: None, first_byte: None, ended: None }
    }

    /// It ends now, unless it has ended.
    pub(crate) fn end(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
    }

    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        self.ended.map_or(Duration::ZERO, |ended| ended.saturating_duration_since(self.began))
    }
}
