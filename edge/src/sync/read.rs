//! Reads registry keys and values.
//!
//! Invariant: a value that cannot be read is counted, logged and skipped, and what stands for its key stays. Of a
//! circuit of another authority no part is kept.

use std::sync::Arc;

use entities::ids::{AuthorityName, CircuitKey};
use entities::registry::layout::{CircuitState, Layout, Meta, Place, SCHEMA, decode_public_key};
use entities::token::{KeyId, PublicKey};
use serde::Deserialize;

use super::metrics::{SkipReason, SyncMetrics};
use crate::table::ledger::Observation;

/// Reads keys under one layout.
pub(super) struct Reader {
    layout: Layout,
    authority: AuthorityName,
    metrics: Arc<SyncMetrics>,
}

/// What a key and its value say.
#[derive(Debug)]
pub(super) enum Reading {
    /// Something about a circuit.
    Circuit(CircuitKey, Observation),
    /// Whose registry it is; `None` if there is no such key or it cannot be read.
    Meta(Option<Meta>),
    /// A public key; `None` if it is gone.
    Key(KeyId, Option<PublicKey>),
    /// A public key that cannot be read: what stands for it stays.
    UnreadableKey(KeyId),
    /// Nothing for the table.
    Other,
}

/// As much of an envelope as tells whose circuit is in it.
#[derive(Deserialize)]
struct Glance<'a> {
    schema: u32,
    #[serde(borrow)]
    circuit: Option<Owner<'a>>,
}

#[derive(Deserialize)]
struct Owner<'a> {
    authority: &'a str,
}

// === impl Reader ===

impl Reader {
    /// Reads for an edge that serves `authority`.
    pub(super) fn new(layout: Layout, authority: AuthorityName, metrics: Arc<SyncMetrics>) -> Self {
        Self { layout, authority, metrics }
    }

    /// Reads a key with its value, or without one if the key is gone.
    pub(super) fn read(&self, key: &str, value: Option<&[u8]>) -> Reading {
        match self.layout.parse(key) {
            Place::Meta => Reading::Meta(value.and_then(|value| self.read_meta(value))),
            Place::Circuit(key) => {
                let observation = value.map_or(Observation::Gone, |value| self.read_circuit(&key, value));
                Reading::Circuit(key, observation)
            }
            Place::Key(id) => match value {
                Some(value) => self.read_key(id, value),
                None => Reading::Key(id, None),
            },
            Place::Other => Reading::Other,
        }
    }

    fn read_meta(&self, value: &[u8]) -> Option<Meta> {
        Meta::decode(value)
            .inspect_err(|error| {
                self.metrics.skipped.inc(SkipReason::Malformed);
                tracing::warn!(%error, "the registry's meta cannot be read");
            })
            .ok()
    }

    fn read_key(&self, id: KeyId, value: &[u8]) -> Reading {
        match decode_public_key(&id, value) {
            Ok(key) => Reading::Key(id, Some(key)),
            Err(error) => {
                self.metrics.skipped.inc(SkipReason::of(&error));
                tracing::warn!(%id, %error, "a public key cannot be read, what stands for it stays");
                Reading::UnreadableKey(id)
            }
        }
    }

    fn read_circuit(&self, key: &CircuitKey, value: &[u8]) -> Observation {
        if self.is_elsewhere(value) {
            return Observation::Elsewhere;
        }
        match CircuitState::decode(value) {
            Ok(CircuitState::Open(versioned)) if versioned.circuit.key == *key => Observation::Open(versioned),
            Ok(CircuitState::Open(versioned)) => {
                self.metrics.skipped.inc(SkipReason::OtherKey);
                tracing::warn!(%key, names = %versioned.circuit.key, "a registry value names another circuit");
                Observation::Unreadable
            }
            Ok(CircuitState::Closed { generation }) => Observation::Closed(generation),
            Err(error) => {
                self.metrics.skipped.inc(SkipReason::of(&error));
                tracing::warn!(%key, %error, "a registry value cannot be read, what stands for its key stays");
                Observation::Unreadable
            }
        }
    }

    /// Whether the value is a circuit of another authority. What cannot be read like this is read as a whole.
    fn is_elsewhere(&self, value: &[u8]) -> bool {
        let glance: Option<Glance<'_>> = serde_json::from_slice(value).ok();
        glance.filter(|glance| glance.schema == SCHEMA).and_then(|glance| glance.circuit).is_some_and(|circuit| {
            // What is no name at all is a fault, not a neighbour.
            circuit.authority != self.authority.as_str() && circuit.authority.parse::<AuthorityName>().is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn reader() -> Reader {
        let metrics = SyncMetrics::register(&Metrics::default()).expect("valid names");
        Reader::new(Layout::default(), "main".parse().expect("valid"), metrics)
    }

    /// The circuit is not even looked at: it has nothing that this program needs.
    #[test]
    fn of_a_circuit_of_another_authority_nothing_but_the_authority_is_read() {
        let value =
            br#"{"schema":1,"generation":3,"circuit":{"authority":"other","frontend":{"mode":"carrier pigeon"}}}"#;
        let reading = reader().read("/appproxy/circuits/s1:web", Some(value));
        assert!(matches!(reading, Reading::Circuit(_, Observation::Elsewhere)), "{reading:?}");
    }

    #[test]
    fn what_is_no_neighbour_is_read_as_a_whole() {
        let reader = reader();
        for (value, is_closed) in [
            (&br#"{"schema":1,"generation":3,"closed":true}"#[..], true),
            (br#"{"schema":2,"generation":3,"circuit":{"authority":"other"}}"#, false),
            (br#"{"schema":1,"generation":3,"circuit":{"authority":"main"}}"#, false),
            (br#"{"schema":1,"generation":3,"circuit":{"authority":"No Name"}}"#, false),
            (b"{", false),
        ] {
            let Reading::Circuit(_, observation) = reader.read("/appproxy/circuits/s1:web", Some(value)) else {
                unreachable!("the key is a circuit's")
            };
            let is_expected = match observation {
                Observation::Closed(_) => is_closed,
                Observation::Unreadable => !is_closed,
                _ => false,
            };
            assert!(is_expected, "{observation:?} for {}", String::from_utf8_lossy(value));
        }
    }
}
