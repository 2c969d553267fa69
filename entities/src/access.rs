//! Who may use a circuit.
//!
//! Invariant: an [`Access`] holds only rules that the edge enforces; a rule that it does not know is refused at the API.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;
use crate::ids::UserId;

/// Who may use a circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Anybody who can reach the edge may use it.
    pub public: bool,
    /// Whose it is. A released subdomain rests for everybody but them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
}

impl Default for Access {
    fn default() -> Self {
        Self { public: true, user_id: None }
    }
}

impl Access {
    /// Reads the field `access`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        if fields.boolean("public", faults) == Some(false) {
            let detail = "private circuits are not supported yet; say \"public\": true";
            faults.push(fields.pointer_to("public"), FaultCode::NotSupported, detail);
        }
        let user_id = fields.parse::<UserId>("user_id", faults);
        fields.not_supported("allowed_clients", faults);
        fields.not_supported("allowed_origins", faults);
        fields.not_supported("login_url", faults);
        fields.finish(faults);
        Some(Self { public: true, user_id })
    }
}
