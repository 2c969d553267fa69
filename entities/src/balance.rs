//! How the requests of a circuit are spread over its targets.
//!
//! Invariant: a [`Strategy`] that can be named here is one that the edge carries out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;

/// Which target gets the next request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Each in turn.
    #[default]
    RoundRobin,
}

/// The field `load_balancing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancing {
    /// Which target gets the next request.
    pub strategy: Strategy,
}

impl LoadBalancing {
    /// Reads the field `load_balancing`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let words = [("round_robin", Some(Strategy::RoundRobin)), ("weighted", None), ("least_connections", None)];
        let strategy = fields.choice("strategy", &words, faults);
        if strategy == Some(None) {
            let detail = "only round_robin is supported yet";
            faults.push(fields.pointer_to("strategy"), FaultCode::NotSupported, detail);
        }
        fields.finish(faults);
        Some(Self { strategy: strategy.flatten().unwrap_or_default() })
    }
}
