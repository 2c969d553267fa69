//! How much a circuit takes: requests and bytes for each second.
//!
//! Invariant: a rule that can be read here can be carried out as it says, without rounding.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;

/// The most requests in a second that a rule may name: more than one edge serves.
const MAX_REQUESTS_PER_S: u32 = 1_000_000;

/// Steps of a rate in one request for each second.
const STEPS: u32 = 1_000;

/// The longest burst. With the smallest rate it lasts 30 years, which nanoseconds in 64 bits can count.
const MAX_BURST: u64 = 1_000_000;

/// The smallest bandwidth: what is passed on in one piece is at most 64 KiB, and no piece may take longer than a second.
const MIN_BYTES_PER_S: u64 = 64 * 1024;

/// The largest bandwidth, a terabyte: more than one edge carries.
const MAX_BYTES_PER_S: u64 = 1_000_000_000_000;

/// The field `bandwidth`: how many bytes an edge carries for the circuit, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// How many in each direction, over all of its connections.
    pub bytes_per_s: u64,
}

/// The field `rate_limit`: how many requests, or connections of a byte stream, an edge takes for the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// How many in the long run.
    pub requests_per_s: RequestRate,
    /// How many at once after a pause.
    pub burst: u32,
    /// Who shares the rate.
    pub per: Per,
}

/// Who shares a rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Each client has its own; a network of 64 bits is one client of IPv6.
    #[default]
    Client,
    /// All clients together.
    Circuit,
}

/// Requests for each second, from 0.001 to 1,000,000 in steps of 0.001; as a number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRate {
    steps: u32,
}

// === impl RateLimit ===

impl RateLimit {
    /// Reads the field `rate_limit`; `Some(None)` says that there is none any more.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Option<Self>> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let words = [("client", Some(Per::Client)), ("circuit", Some(Per::Circuit)), ("none", None)];
        let per = fields.choice("per", &words, faults);
        let rate = fields.take("requests_per_s");
        let burst = fields.integer("burst", 1, MAX_BURST, faults).and_then(|number| u32::try_from(number).ok());
        let at = fields.pointer_to("requests_per_s");
        if per == Some(None) {
            if rate.is_some() || burst.is_some() {
                faults.push(pointer, FaultCode::Contradiction, "no limit has neither a rate nor a burst");
            }
            fields.finish(faults);
            return Some(None);
        }
        let Some(rate) = rate else {
            fields.missing("requests_per_s", faults);
            fields.finish(faults);
            return None;
        };
        fields.finish(faults);
        let requests_per_s = match rate.as_f64() {
            Some(number) => RequestRate::new(number).or_else(|| {
                let detail = format!("must be from 0.001 to {MAX_REQUESTS_PER_S} in steps of 0.001");
                faults.push(at, FaultCode::Invalid, detail);
                None
            }),
            None => {
                faults.push(at, FaultCode::WrongType, "must be a number");
                None
            }
        }?;
        let burst = burst.unwrap_or_else(|| requests_per_s.in_a_second());
        Some(Some(Self { requests_per_s, burst, per: per.flatten().unwrap_or_default() }))
    }
}

// === impl Bandwidth ===

impl Bandwidth {
    /// Reads the field `bandwidth`; `Some(None)` says that there is no limit any more.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Option<Self>> {
        let mut fields = Fields::of(value, pointer, faults)?;
        if value.get("bytes_per_s").is_none_or(Value::is_null) {
            fields.missing("bytes_per_s", faults);
        }
        let bytes_per_s = fields.integer("bytes_per_s", 0, MAX_BYTES_PER_S, faults);
        let at = fields.pointer_to("bytes_per_s");
        fields.finish(faults);
        match bytes_per_s? {
            0 => Some(None),
            1..MIN_BYTES_PER_S => {
                faults.push(at, FaultCode::Invalid, format!("must be at least {MIN_BYTES_PER_S}, or 0 for no limit"));
                None
            }
            bytes_per_s => Some(Some(Self { bytes_per_s })),
        }
    }
}

// === impl RequestRate ===

impl RequestRate {
    /// So many for each second; nothing if that is out of bounds or between two steps.
    pub fn new(requests_per_s: f64) -> Option<Self> {
        let steps = requests_per_s * f64::from(STEPS);
        let whole = steps.round();
        let is_step =
            (steps - whole).abs() < 1e-6 && (1.0..=f64::from(MAX_REQUESTS_PER_S) * f64::from(STEPS)).contains(&whole);
        // Whole and within bounds of 32 bits.
        is_step.then_some(Self { steps: whole as u32 })
    }

    /// The time from one request to the next, in nanoseconds.
    pub fn interval_ns(self) -> u64 {
        u64::from(STEPS) * 1_000_000_000 / u64::from(self.steps.max(1))
    }

    /// How many come in one second, at least one.
    fn in_a_second(self) -> u32 {
        self.steps.div_ceil(STEPS)
    }
}

impl Serialize for RequestRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.steps % STEPS {
            0 => serializer.serialize_u32(self.steps / STEPS),
            _ => serializer.serialize_f64(f64::from(self.steps) / f64::from(STEPS)),
        }
    }
}

impl<'de> Deserialize<'de> for RequestRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom("a rate is out of bounds"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> (Option<Option<RateLimit>>, Vec<(String, FaultCode)>) {
        let mut faults = Faults::default();
        let read = RateLimit::read(value, "/rate_limit", &mut faults);
        (read, faults.as_slice().iter().map(|fault| (fault.pointer.clone(), fault.code)).collect())
    }

    fn rate(number: f64) -> RequestRate {
        RequestRate::new(number).expect("a rate")
    }

    #[test]
    fn a_rate_is_enough_and_a_burst_is_a_second_of_it() {
        let limit = |value: Value| read(&value).0.expect("faultless").expect("a limit");
        let five = RateLimit { requests_per_s: rate(5.0), burst: 5, per: Per::Client };
        assert_eq!(limit(json!({"requests_per_s": 5})), five);
        assert_eq!(limit(json!({"requests_per_s": 2.5})).burst, 3);
        let slow = RateLimit { requests_per_s: rate(0.1), burst: 1, per: Per::Circuit };
        assert_eq!(limit(json!({"requests_per_s": 0.1, "per": "circuit"})), slow);
        assert_eq!(limit(json!({"requests_per_s": 5, "burst": 20})).burst, 20);
    }

    #[test]
    fn a_limit_can_be_taken_away() {
        assert_eq!(read(&json!({"per": "none"})), (Some(None), vec![]));
        assert_eq!(read(&json!({"per": "none", "burst": 1})).1, [("/rate_limit".to_owned(), FaultCode::Contradiction)]);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        for number in [json!(0), json!(-1), json!(0.0001), json!(0.0015), json!(1_000_001), json!(1e300)] {
            let faults = read(&json!({"requests_per_s": number})).1;
            assert_eq!(faults, [("/rate_limit/requests_per_s".to_owned(), FaultCode::Invalid)], "{number}");
        }
        for (value, pointer, code) in [
            (json!({}), "/rate_limit/requests_per_s", FaultCode::Required),
            (json!({"requests_per_s": "5"}), "/rate_limit/requests_per_s", FaultCode::WrongType),
            (json!({"requests_per_s": 5, "burst": 0}), "/rate_limit/burst", FaultCode::Invalid),
            (json!({"requests_per_s": 5, "burst": 1.5}), "/rate_limit/burst", FaultCode::Invalid),
            (json!({"requests_per_s": 5, "per": "user"}), "/rate_limit/per", FaultCode::Invalid),
            (json!({"requests_per_s": 5, "window_s": 1}), "/rate_limit/window_s", FaultCode::UnknownField),
        ] {
            assert_eq!(read(&value).1, [(pointer.to_owned(), code)], "{value}");
        }
    }

    #[test]
    fn a_bandwidth_has_a_least_and_a_most_and_none_is_zero() {
        let read = |value: Value| {
            let mut faults = Faults::default();
            let read = Bandwidth::read(&value, "/bandwidth", &mut faults);
            (read, faults.as_slice().iter().map(|fault| (fault.pointer.clone(), fault.code)).collect::<Vec<_>>())
        };
        assert_eq!(read(json!({"bytes_per_s": 65_536})), (Some(Some(Bandwidth { bytes_per_s: 65_536 })), vec![]));
        assert_eq!(read(json!({"bytes_per_s": 0})), (Some(None), vec![]));
        for (value, code) in [
            (json!({}), FaultCode::Required),
            (json!({"bytes_per_s": 65_535}), FaultCode::Invalid),
            (json!({"bytes_per_s": 1_000_000_000_001_u64}), FaultCode::Invalid),
            (json!({"bytes_per_s": 70_000.5}), FaultCode::Invalid),
            (json!({"bytes_per_s": "1M"}), FaultCode::WrongType),
        ] {
            assert_eq!(read(value.clone()), (None, vec![("/bandwidth/bytes_per_s".to_owned(), code)]), "{value}");
        }
    }

    #[test]
    fn rates_are_written_as_they_were_read() {
        for number in [json!(5), json!(0.1), json!(2.5), json!(0.001), json!(1_000_000), json!(33.333)] {
            let read: RequestRate = serde_json::from_value(number.clone()).expect("a rate");
            assert_eq!(serde_json::to_value(read).expect("encodes"), number);
        }
        assert_eq!(rate(0.1).interval_ns(), 10_000_000_000);
        assert_eq!(rate(1_000_000.0).interval_ns(), 1_000);
        assert!(serde_json::from_value::<RequestRate>(json!(0)).is_err());
    }
}
