//! Rules over the traffic of one circuit: time limits, header fields, the PROXY protocol, and how its targets are watched
//! and tried.
//!
//! Invariant: a rule stands here only for a backend that honours it; [`Traffic::check`] refuses the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Backend;
use crate::balance::{Affinity, Retries};
use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;
use crate::health_check::HealthCheck;
use crate::limits::{MAX_FIELD_EDITS, MAX_FIELD_NAME_BYTES, MAX_FIELD_VALUE_BYTES};
use crate::rate::{Bandwidth, RateLimit};

/// The longest time limit for connecting and for the first byte.
const MAX_TIMEOUT_MS: u64 = 3_600_000;

/// The longest idle time: a week.
const MAX_IDLE_S: u64 = 7 * 24 * 3_600;

/// The longest drain time: a day.
const MAX_DRAIN_S: u64 = 24 * 3_600;

/// Fields that frame a message, belong to one hop (RFC 9110 §7.6.1) or are the proxy's own to set.
const RESERVED: [&str; 18] = [
    "connection",
    "content-length",
    "forwarded",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// All rules; a circuit without any has the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Time limits that differ from the edge's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: Timeouts,
    /// Header fields to set and to remove.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: Headers,
    /// Which header tells a TCP target who the client is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Whether clients stay with their targets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub affinity: Affinity,
    /// How often a request is tried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Retries,
    /// How targets are probed; without it only what requests meet counts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health_check: Option<HealthCheck>,
    /// How many requests are taken; without it, all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rate_limit: Option<RateLimit>,
    /// How many bytes are carried; without it, all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bandwidth: Option<Bandwidth>,
}

/// Time limits; what is `None` is as the edge is configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// How long connecting to one target may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connect_ms: Option<u32>,
    /// How long a target may take to begin its answer; 0 is for ever.
    #[serde(default, skip_serializing_if = "is_default")]
    pub first_byte_ms: Option<u32>,
    /// How long a relayed connection may carry nothing in either direction; 0 is for ever.
    #[serde(default, skip_serializing_if = "is_default")]
    pub idle_s: Option<u32>,
    /// How long open connections go on after the circuit was closed or their target was taken away.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drain_s: Option<u32>,
}

/// Edits of both heads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    /// On the way to the target.
    #[serde(default, skip_serializing_if = "is_default")]
    pub request: FieldEdits,
    /// On the way to the client.
    #[serde(default, skip_serializing_if = "is_default")]
    pub response: FieldEdits,
}

/// Edits of one head: first what is removed, then what is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldEdits {
    /// Fields that get this value in place of whatever they had, by their names in lower case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set: BTreeMap<String, String>,
    /// Fields that go, by their names in lower case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remove: Vec<String>,
}

/// The two forms of the PROXY protocol (specification of HAProxy, sections 2.1 and 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

// === impl Traffic ===

impl Traffic {
    /// Whether there is no rule.
    pub fn is_default(&self) -> bool {
        is_default(self)
    }

    /// Refuses rules that `backend` does not honour.
    pub fn check(&self, backend: Backend, faults: &mut Faults) {
        let is_stream = backend == Backend::Tcp;
        let mut refuse = |pointer: &str, detail: &str| faults.push(pointer, FaultCode::Contradiction, detail);
        if is_stream && self.timeouts.first_byte_ms.is_some() {
            refuse("/timeouts/first_byte_ms", "a byte stream has no answer to wait for");
        }
        if is_stream && !is_default(&self.headers) {
            refuse("/headers", "a byte stream has no header fields");
        }
        if is_stream && self.affinity.cookie {
            refuse("/affinity/cookie", "a byte stream has no cookies");
        }
        if is_stream && self.retries.idempotent {
            refuse("/retries/idempotent", "nothing that was sent into a byte stream can be sent again");
        }
        if !is_stream && self.proxy_protocol.is_some() {
            refuse("/proxy_protocol", "only the tcp backend sends it; HTTP targets read Forwarded");
        }
    }
}

// === impl Timeouts ===

impl Timeouts {
    /// Reads the field `timeouts`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let mut number =
            |name, least, most| fields.integer(name, least, most, faults).and_then(|number| u32::try_from(number).ok());
        let read = Self {
            connect_ms: number("connect_ms", 1, MAX_TIMEOUT_MS),
            first_byte_ms: number("first_byte_ms", 0, MAX_TIMEOUT_MS),
            idle_s: number("idle_s", 0, MAX_IDLE_S),
            drain_s: number("drain_s", 0, MAX_DRAIN_S),
        };
        fields.finish(faults);
        Some(read)
    }
}

// === impl Headers ===

impl Headers {
    /// Reads the field `headers`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let mut edits = |name: &'static str| {
            let place = fields.pointer_to(name);
            fields.take(name).map(|value| FieldEdits::read(value, &place, faults)).unwrap_or_default()
        };
        let read = Self { request: edits("request"), response: edits("response") };
        fields.finish(faults);
        Some(read)
    }
}

// === impl FieldEdits ===

impl FieldEdits {
    fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Self {
        let mut edits = Self::default();
        let Some(mut fields) = Fields::of(value, pointer, faults) else { return edits };
        let set_at = fields.pointer_to("set");
        if let Some(set) = fields.take("set").and_then(|set| Fields::of(set, set_at.as_str(), faults)) {
            for (name, value) in set.rest() {
                let place = set.pointer_to(name);
                let Some(name) = read_name(name, &place, faults) else { continue };
                match value.as_str() {
                    Some(text) if is_field_value(text) => {
                        edits.set.insert(name, text.to_owned());
                    }
                    Some(_) => {
                        let detail = format!("must be printable ASCII of at most {MAX_FIELD_VALUE_BYTES} bytes");
                        faults.push(place, FaultCode::Invalid, detail);
                    }
                    None => faults.push(place, FaultCode::WrongType, "must be a string"),
                }
            }
        }
        let remove_at = fields.pointer_to("remove");
        for (index, name) in fields.list("remove", faults).into_iter().flatten().enumerate() {
            let place = format!("{remove_at}/{index}");
            match name.as_str() {
                Some(name) => edits.remove.extend(read_name(name, &place, faults)),
                None => faults.push(place, FaultCode::WrongType, "must be a string"),
            }
        }
        fields.finish(faults);
        if edits.set.len() + edits.remove.len() > MAX_FIELD_EDITS {
            faults.push(pointer, FaultCode::TooLarge, format!("at most {MAX_FIELD_EDITS} fields"));
        }
        edits
    }
}

/// A field's name in lower case (RFC 9110 §5.1).
fn read_name(name: &str, pointer: &str, faults: &mut Faults) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MAX_FIELD_NAME_BYTES || !name.bytes().all(is_token) {
        let detail = format!("must be the name of a field of at most {MAX_FIELD_NAME_BYTES} bytes");
        faults.push(pointer, FaultCode::Invalid, detail);
        return None;
    }
    if RESERVED.contains(&name.as_str()) {
        faults.push(pointer, FaultCode::Invalid, format!("{name} is the proxy's own"));
        return None;
    }
    Some(name)
}

fn is_field_value(text: &str) -> bool {
    text.len() <= MAX_FIELD_VALUE_BYTES
        && text.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic())
        && text.trim() == text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_headers(value: &Value) -> (Headers, Vec<String>) {
        let mut faults = Faults::default();
        let read = Headers::read(value, "/headers", &mut faults).unwrap_or_default();
        (read, faults.as_slice().iter().map(|fault| fault.pointer.clone()).collect())
    }

    #[test]
    fn names_are_read_in_lower_case_and_reserved_ones_are_refused() {
        let (read, faults) = read_headers(&json!({
            "request": {"set": {"X-Env": "a b", "Via": "me", "bad name": "x", "X-Line": "a\r\nb"}, "remove": ["Cookie"]},
            "response": {"remove": ["Transfer-Encoding", 7]},
        }));
        assert_eq!(read.request.set, BTreeMap::from([("x-env".to_owned(), "a b".to_owned())]));
        assert_eq!(read.request.remove, ["cookie"]);
        assert_eq!(read.response, FieldEdits::default());
        for wanted in [
            "/headers/request/set/Via",
            "/headers/request/set/bad name",
            "/headers/request/set/X-Line",
            "/headers/response/remove/0",
            "/headers/response/remove/1",
        ] {
            assert!(faults.iter().any(|found| found == wanted), "{wanted} is missing in {faults:?}");
        }
    }

    #[test]
    fn there_is_a_limit_to_edits() {
        let many: Vec<String> = (0..=MAX_FIELD_EDITS).map(|index| format!("x-{index}")).collect();
        assert_eq!(read_headers(&json!({"request": {"remove": many}})).1, ["/headers/request"]);
    }

    #[test]
    fn a_rule_that_the_backend_does_not_honour_is_refused() {
        let traffic = Traffic {
            timeouts: Timeouts { first_byte_ms: Some(1), ..Timeouts::default() },
            headers: Headers {
                request: FieldEdits { remove: vec!["cookie".to_owned()], ..FieldEdits::default() },
                ..Headers::default()
            },
            proxy_protocol: Some(ProxyProtocol::V2),
            affinity: Affinity { cookie: true },
            retries: Retries { idempotent: true, ..Retries::default() },
            health_check: None,
            rate_limit: None,
            bandwidth: None,
        };
        let pointers = |backend| {
            let mut faults = Faults::default();
            traffic.check(backend, &mut faults);
            faults.as_slice().iter().map(|fault| fault.pointer.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            pointers(Backend::Tcp),
            ["/timeouts/first_byte_ms", "/headers", "/affinity/cookie", "/retries/idempotent"]
        );
        assert_eq!(pointers(Backend::Http), ["/proxy_protocol"]);
    }

    #[test]
    fn a_circuit_without_rules_takes_no_room_in_the_registry() {
        assert_eq!(serde_json::to_value(Traffic::default()).expect("encodes"), json!({}));
        assert_eq!(serde_json::from_value::<Traffic>(json!({})).expect("decodes"), Traffic::default());
    }
}
