//! How edges find out whether a target works, before a client does.
//!
//! Invariant: a probe is over before the next one of the same check is due, so a slow target never has two at a time.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;
use crate::limits::{MAX_CHECK_PATH_BYTES, MAX_EXPECTED_STATUSES};

/// The longest time between probes and the longest grace: an hour.
const MAX_INTERVAL_S: u64 = 3_600;

/// The longest time that a probe may take.
const MAX_TIMEOUT_S: u64 = 60;

/// The most failures that a target may have in a row.
const MAX_RETRIES: u64 = 100;

/// What a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckType {
    /// Whether the target takes a connection.
    Tcp,
    /// Whether it answers `GET` with an expected status, in HTTP/1.1 or, for the backend `h2`, in HTTP/2.
    Http,
}

/// The field `health_check`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What a probe asks.
    #[serde(rename = "type")]
    pub kind: CheckType,
    /// What HTTP probes ask for; always set for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The statuses that count as success; none means every 2xx and 3xx.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_status: Vec<u16>,
    /// The time from one probe to the next.
    pub interval_s: u16,
    /// How long a probe may take.
    pub timeout_s: u16,
    /// How many failures in a row make a target be down; one success makes it be up.
    pub retries: u8,
    /// How long after it was first seen, and until its first success, failures of a target do not count.
    #[serde(default)]
    pub grace_s: u16,
}

// === impl HealthCheck ===

impl HealthCheck {
    /// Reads the field `health_check`; the type `none` takes a check away.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Option<Self>> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let words = [("tcp", Some(CheckType::Tcp)), ("http", Some(CheckType::Http)), ("none", None)];
        let kind = fields.choice("type", &words, faults);
        if value.get("type").is_none_or(Value::is_null) {
            fields.missing("type", faults);
        }
        let path = fields.parse_with("path", faults, read_path);
        let expected_status = read_statuses(&mut fields, faults);
        let mut number = |name, least, most| fields.integer(name, least, most, faults);
        let interval_s = number("interval_s", 1, MAX_INTERVAL_S).unwrap_or(5);
        let timeout_s = number("timeout_s", 1, MAX_TIMEOUT_S).unwrap_or(2.min(interval_s));
        let retries = number("retries", 1, MAX_RETRIES).unwrap_or(3);
        let grace_s = number("grace_s", 0, MAX_INTERVAL_S).unwrap_or(0);
        let mut refuse = |name: &str, detail: &str| {
            faults.push(fields.pointer_to(name), FaultCode::Contradiction, detail);
        };
        if timeout_s > interval_s {
            refuse("timeout_s", "must not be longer than interval_s");
        }
        if kind == Some(Some(CheckType::Tcp)) {
            if path.is_some() {
                refuse("path", "a tcp check asks for no path");
            }
            if !expected_status.is_empty() {
                refuse("expected_status", "a tcp check has no status");
            }
        }
        fields.finish(faults);
        let Some(kind) = kind? else { return Some(None) };
        let is_http = kind == CheckType::Http;
        Some(Some(Self {
            kind,
            path: is_http.then(|| path.unwrap_or_else(|| "/".to_owned())),
            expected_status,
            interval_s: u16::try_from(interval_s).ok()?,
            timeout_s: u16::try_from(timeout_s).ok()?,
            retries: u8::try_from(retries).ok()?,
            grace_s: u16::try_from(grace_s).ok()?,
        }))
    }

    /// Whether an answer with this status is a success.
    pub fn expects(&self, status: u16) -> bool {
        if self.expected_status.is_empty() {
            (200..400).contains(&status)
        } else {
            self.expected_status.contains(&status)
        }
    }
}

/// A request target in origin form (RFC 9112 §3.2.1).
fn read_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_path && text.len() <= MAX_CHECK_PATH_BYTES {
        Ok(text.to_owned())
    } else {
        Err(format!("must begin with a slash and have at most {MAX_CHECK_PATH_BYTES} visible ASCII characters"))
    }
}

fn read_statuses(fields: &mut Fields<'_>, faults: &mut Faults) -> Vec<u16> {
    let pointer = fields.pointer_to("expected_status");
    let list = fields.list("expected_status", faults).map(Vec::as_slice).unwrap_or_default();
    if list.len() > MAX_EXPECTED_STATUSES {
        faults.push(pointer, FaultCode::TooLarge, format!("at most {MAX_EXPECTED_STATUSES} statuses"));
        return Vec::new();
    }
    let mut statuses = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        match value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|code| (200..600).contains(code)) {
            Some(code) => statuses.push(code),
            None => faults.push(format!("{pointer}/{index}"), FaultCode::Invalid, "must be from 200 to 599"),
        }
    }
    statuses
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Option<HealthCheck>, Vec<(String, FaultCode)>> {
        let mut faults = Faults::default();
        let read = HealthCheck::read(&value, "", &mut faults);
        if faults.is_empty() {
            return Ok(read.expect("without a fault there is an answer"));
        }
        Err(faults.as_slice().iter().map(|fault| (fault.pointer.clone(), fault.code)).collect())
    }

    #[test]
    fn a_type_is_enough() {
        let http = read(json!({"type": "http"})).expect("valid").expect("a check");
        assert_eq!((http.path.as_deref(), http.interval_s, http.timeout_s, http.retries), (Some("/"), 5, 2, 3));
        assert!(http.expects(204) && http.expects(302) && !http.expects(404) && !http.expects(101));
        let tcp = read(json!({"type": "tcp", "interval_s": 1})).expect("valid").expect("a check");
        assert_eq!((tcp.path, tcp.timeout_s), (None, 1));
        assert_eq!(read(json!({"type": "none"})), Ok(None));
    }

    #[test]
    fn an_expected_status_is_the_only_one() {
        let check = read(json!({"type": "http", "path": "/api?x=1", "expected_status": [401]})).expect("valid");
        let check = check.expect("a check");
        assert!(check.expects(401) && !check.expects(200));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (value, pointer, code) in [
            (json!({}), "/type", FaultCode::Required),
            (json!({"type": "icmp"}), "/type", FaultCode::Invalid),
            (json!({"type": "http", "path": "api"}), "/path", FaultCode::Invalid),
            (json!({"type": "http", "path": "/a b"}), "/path", FaultCode::Invalid),
            (json!({"type": "http", "path": "/a\r\nX: y"}), "/path", FaultCode::Invalid),
            (json!({"type": "tcp", "path": "/"}), "/path", FaultCode::Contradiction),
            (json!({"type": "tcp", "expected_status": [200]}), "/expected_status", FaultCode::Contradiction),
            (json!({"type": "http", "expected_status": [101]}), "/expected_status/0", FaultCode::Invalid),
            (json!({"type": "tcp", "interval_s": 0}), "/interval_s", FaultCode::Invalid),
            (json!({"type": "tcp", "interval_s": 2, "timeout_s": 3}), "/timeout_s", FaultCode::Contradiction),
            (json!({"type": "tcp", "rise": 2}), "/rise", FaultCode::UnknownField),
        ] {
            assert_eq!(read(value.clone()), Err(vec![(pointer.to_owned(), code)]), "{value}");
        }
    }
}
