//! One replica of a service: where it is and how much of the traffic it takes.
//!
//! Invariant: a [`TargetHost`] is an IP address or a DNS name, so it can be resolved and printed as it is.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;
use crate::host::HostName;
use crate::ids::Port;
use crate::limits::MAX_TARGETS;

/// Where a target is: an IPv4 or IPv6 address or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetHost(String);

/// Why a string is not a target's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an IP address or a DNS name")]
pub struct TargetHostError;

impl TargetHost {
    /// The host as text, an IPv6 address without brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl FromStr for TargetHost {
    type Err = TargetHostError;

    fn from_str(text: &str) -> Result<Self, TargetHostError> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let is_connectable = !address.is_unspecified() && !address.is_multicast();
            return if is_connectable { Ok(Self(address.to_string())) } else { Err(TargetHostError) };
        }
        // A name of digits and dots only is a mistyped address, not a name.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match text.parse::<HostName>() {
            Ok(host) if !is_number => Ok(Self(host.into())),
            _ => Err(TargetHostError),
        }
    }
}

impl TryFrom<String> for TargetHost {
    type Error = TargetHostError;

    fn try_from(text: String) -> Result<Self, TargetHostError> {
        text.parse()
    }
}

impl From<TargetHost> for String {
    fn from(host: TargetHost) -> String {
        host.0
    }
}

/// One replica of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Where it is.
    pub host: TargetHost,
    /// Where it listens.
    pub port: Port,
    /// Its share of the traffic relative to the others; with 0 it finishes what is open and gets nothing new.
    #[serde(default = "default_weight")]
    pub weight: u16,
}

fn default_weight() -> u16 {
    1
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.0.contains(':') {
            write!(formatter, "[{}]:{}", self.host.0, self.port)
        } else {
            write!(formatter, "{}:{}", self.host.0, self.port)
        }
    }
}

impl Target {
    /// Reads the field `targets`.
    pub fn read_list(list: &[Value], pointer: &str, faults: &mut Faults) -> Vec<Self> {
        if list.len() > MAX_TARGETS {
            faults.push(pointer, FaultCode::TooLarge, format!("at most {MAX_TARGETS} targets"));
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let mut targets = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let place = format!("{pointer}/{index}");
            let Some(target) = Self::read(value, &place, faults) else { continue };
            if !seen.insert((target.host.clone(), target.port)) {
                faults.push(place, FaultCode::Duplicate, format!("{target} stands here already"));
            }
            targets.push(target);
        }
        targets
    }

    fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let host = fields.parse::<TargetHost>("host", faults);
        let number = fields.integer("port", 1, 65_535, faults);
        let weight = fields.integer("weight", 0, 65_535, faults);
        if let Some(object) = value.as_object() {
            for name in ["host", "port"] {
                if object.get(name).is_none_or(Value::is_null) {
                    fields.missing(name, faults);
                }
            }
        }
        fields.finish(faults);
        let port = Port::try_from(u16::try_from(number?).ok()?).ok()?;
        let weight = weight.and_then(|number| u16::try_from(number).ok());
        Some(Self { host: host?, port, weight: weight.unwrap_or_else(default_weight) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_or_a_name() {
        for (given, wanted) in
            [("10.0.0.5", "10.0.0.5"), ("[::1]", "::1"), ("::1", "::1"), ("Node-7.Cluster", "node-7.cluster")]
        {
            assert_eq!(given.parse::<TargetHost>().expect("valid").as_str(), wanted);
        }
        for wrong in ["", "0.0.0.0", "::", "224.0.0.1", "999.1.1.1", "a b", "http://x", "x:80", "-x", "10.0.0"] {
            assert!(wrong.parse::<TargetHost>().is_err(), "{wrong:?} was taken for a host");
        }
    }

    #[test]
    fn an_ipv6_target_prints_with_brackets() {
        let target =
            Target { host: "::1".parse().expect("valid"), port: Port::try_from(80).expect("valid"), weight: 1 };
        assert_eq!(target.to_string(), "[::1]:80");
    }
}
