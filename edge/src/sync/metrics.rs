//! What is counted of the registry and of what is made of it.

use entities::registry::layout::EnvelopeError;

use crate::metrics::{Counter, CounterOf, Gauge, GaugeOf, metrics};
use crate::position::StaleReason;
use crate::words::words;

metrics! {
    /// How far the edge is with the registry, and what it has made of it.
    pub(crate) struct SyncMetrics {
        circuits: Gauge = ("circuits", "Circuits in the table"),
        circuits_refused: Gauge = ("circuits_refused", "Circuits that cannot be served here"),
        circuits_touched: Counter = ("circuits_touched_total", "Circuits opened, changed or closed by a change or a list"),
        circuits_held_back: Gauge = ("circuits_held_back", "Circuits that the registry stopped naming"),
        ports_open: Gauge = ("ports_open", "Dynamic ports that listen"),
        relists: Counter = ("registry_relists_total", "Lists of the registry"),
        events_applied: Counter = ("events_applied_total", "Registry changes applied"),
        applied_revision: Gauge = ("applied_revision", "Registry revision that is applied"),
        stale: GaugeOf<StaleReason> = ("stale", "Whether what is served is not confirmed, by reason"),
        skipped: CounterOf<SkipReason> = ("registry_values_skipped_total", "Registry values not understood"),
        drains_cut: Counter = ("drains_cut_total", "Requests cut at the end of a drain time"),
    }
}

words! {
    /// What was wrong with a registry value.
    pub(crate) enum SkipReason in "reason" {
        /// It does not parse.
        Malformed = "malformed",
        /// It was written by a program of another time.
        UnknownSchema = "unknown_schema",
        /// It is about another key than its name says.
        OtherKey = "other_key",
    }
}

// === impl SkipReason ===

impl SkipReason {
    /// Why a value with this error is skipped.
    pub(super) fn of(error: &EnvelopeError) -> Self {
        match error {
            EnvelopeError::UnknownSchema(_) => Self::UnknownSchema,
            EnvelopeError::NotTheKey => Self::OtherKey,
            EnvelopeError::Malformed(_) | EnvelopeError::TooLarge(_) | EnvelopeError::Empty => Self::Malformed,
        }
    }
}
