//! How the requests of a circuit are spread over its targets, and what happens to those that a target drops.
//!
//! Invariant: a rule that can be named here is one that the edge carries out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::Faults;
use crate::fields::Fields;
use crate::limits::MAX_ATTEMPTS;

/// Which target gets the next request. A target of weight 0 gets none, whatever the strategy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Each in turn; other weights than 0 make no difference.
    #[default]
    RoundRobin,
    /// By weight, and evenly in time: 5:1:1 gives a a b a c a a.
    Weighted,
    /// The one with the fewest open requests, streams and tunnels for its weight.
    LeastConnections,
}

impl Strategy {
    /// The words on the wire.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("round_robin", Self::RoundRobin),
        ("weighted", Self::Weighted),
        ("least_connections", Self::LeastConnections),
    ];
}

/// The field `load_balancing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancing {
    /// Which target gets the next request.
    pub strategy: Strategy,
}

/// The field `affinity`: whether a client stays with the target that served it first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// A cookie of the edge says which target that was.
    #[serde(default)]
    pub cookie: bool,
}

/// The field `retries`: how often the edge tries to have a request served.
///
/// What was not sent yet is always tried at the next target. What was sent may have been acted upon, so it is sent again
/// only if its method is idempotent (RFC 9110 §9.2.2) and the circuit says that this may be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// Whether an idempotent request that was sent, and whose answer has not begun, may be sent to another target.
    #[serde(default)]
    pub idempotent: bool,
    /// How often one request may be tried, the first time included.
    #[serde(default = "default_attempts")]
    pub attempts: u8,
}

fn default_attempts() -> u8 {
    3
}

impl Default for Retries {
    fn default() -> Self {
        Self { idempotent: false, attempts: default_attempts() }
    }
}

// === impl LoadBalancing ===

impl LoadBalancing {
    /// Reads the field `load_balancing`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let strategy = fields.choice("strategy", &Strategy::WORDS, faults);
        fields.finish(faults);
        Some(Self { strategy: strategy.unwrap_or_default() })
    }
}

// === impl Affinity ===

impl Affinity {
    /// Reads the field `affinity`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let cookie = fields.boolean("cookie", faults);
        fields.finish(faults);
        Some(Self { cookie: cookie.unwrap_or_default() })
    }
}

// === impl Retries ===

impl Retries {
    /// Reads the field `retries`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let default = Self::default();
        let idempotent = fields.boolean("idempotent", faults);
        let attempts = fields.integer("attempts", 1, MAX_ATTEMPTS.into(), faults);
        fields.finish(faults);
        let attempts = attempts.and_then(|number| u8::try_from(number).ok());
        Some(Self {
            idempotent: idempotent.unwrap_or(default.idempotent),
            attempts: attempts.unwrap_or(default.attempts),
        })
    }
}
