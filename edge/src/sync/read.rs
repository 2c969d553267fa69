//! Reads registry keys and values.
//!
//! Invariant: a value that cannot be read is counted, logged and skipped, and what stands for its key stays.

use std::sync::Arc;

use entities::ids::CircuitKey;
use entities::registry::layout::{CircuitState, EnvelopeError, Layout, Meta, Place};

use crate::metrics::{Metrics, SkipReason};
use crate::table::ledger::Observation;

/// Reads keys under one layout.
pub(super) struct Reader {
    layout: Layout,
    metrics: Arc<Metrics>,
}

/// What a key and its value say.
#[derive(Debug)]
pub(super) enum Reading {
    /// Something about a circuit.
    Circuit(CircuitKey, Observation),
    /// Whose registry it is; `None` if there is no such key or it cannot be read.
    Meta(Option<Meta>),
    /// Nothing for the table.
    Other,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(layout: Layout, metrics: Arc<Metrics>) -> Self {
        Self { layout, metrics }
    }

    /// Reads a key with its value, or without one if the key is gone.
    pub(super) fn read(&self, key: &str, value: Option<&[u8]>) -> Reading {
        match self.layout.parse(key) {
            Place::Meta => Reading::Meta(value.and_then(|value| self.read_meta(value))),
            Place::Circuit(key) => {
                let observation = value.map_or(Observation::Gone, |value| self.read_circuit(&key, value));
                Reading::Circuit(key, observation)
            }
            Place::Other => Reading::Other,
        }
    }

    fn read_meta(&self, value: &[u8]) -> Option<Meta> {
        Meta::decode(value)
            .inspect_err(|error| {
                self.metrics.count_skipped(SkipReason::Malformed);
                tracing::warn!(%error, "the registry's meta cannot be read");
            })
            .ok()
    }

    fn read_circuit(&self, key: &CircuitKey, value: &[u8]) -> Observation {
        match CircuitState::decode(value) {
            Ok(CircuitState::Open(versioned)) if versioned.circuit.key == *key => Observation::Open(versioned),
            Ok(CircuitState::Open(versioned)) => {
                self.metrics.count_skipped(SkipReason::OtherKey);
                tracing::warn!(%key, names = %versioned.circuit.key, "a registry value names another circuit");
                Observation::Unreadable
            }
            Ok(CircuitState::Closed { generation }) => Observation::Closed(generation),
            Err(error) => {
                let is_newer = matches!(error, EnvelopeError::UnknownSchema(_));
                let reason = if is_newer { SkipReason::UnknownSchema } else { SkipReason::Malformed };
                self.metrics.count_skipped(reason);
                tracing::warn!(%key, %error, "a registry value cannot be read, what stands for its key stays");
                Observation::Unreadable
            }
        }
    }
}
