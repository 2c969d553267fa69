//! The way in to a circuit: a port of its own, or a subdomain.
//!
//! Invariant: a [`Frontend`] is always a slot that the store has given to exactly one circuit.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;
use crate::host::{HostName, Subdomain};
use crate::ids::Port;

/// What a caller asks for; the slot itself may be left to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum FrontendRequest {
    /// A port of its own.
    Port {
        /// This port and no other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<Port>,
    },
    /// A name under the wildcard domain.
    Subdomain {
        /// This name and no other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subdomain: Option<Subdomain>,
    },
}

impl Default for FrontendRequest {
    fn default() -> Self {
        Self::Subdomain { subdomain: None }
    }
}

/// What a circuit has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Frontend {
    /// A port of its own at every worker of the authority.
    Port {
        /// The port.
        port: Port,
    },
    /// A name under the authority's domain.
    Subdomain {
        /// The label in front of the domain.
        subdomain: Subdomain,
        /// The whole name.
        host: HostName,
    },
}

impl FrontendRequest {
    /// Reads the field `frontend`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        #[derive(Clone, Copy)]
        enum Mode {
            Port,
            Subdomain,
        }
        let mut fields = Fields::of(value, pointer, faults)?;
        let mode = fields.choice("mode", &[("port", Mode::Port), ("subdomain", Mode::Subdomain)], faults);
        if mode.is_none() && !value.as_object().is_some_and(|object| object.contains_key("mode")) {
            fields.missing("mode", faults);
        }
        let number = fields.integer("port", 1, 65_535, faults);
        let port = number.and_then(|number| u16::try_from(number).ok()).and_then(|number| Port::try_from(number).ok());
        let subdomain = fields.parse::<Subdomain>("subdomain", faults);
        let request = match mode {
            Some(Mode::Port) => {
                if subdomain.is_some() {
                    let detail = "a port circuit has no subdomain";
                    faults.push(fields.pointer_to("subdomain"), FaultCode::Contradiction, detail);
                }
                Some(Self::Port { port })
            }
            Some(Mode::Subdomain) => {
                if port.is_some() {
                    let detail = "a subdomain circuit has no port of its own";
                    faults.push(fields.pointer_to("port"), FaultCode::Contradiction, detail);
                }
                Some(Self::Subdomain { subdomain })
            }
            None => None,
        };
        fields.finish(faults);
        request
    }
}
