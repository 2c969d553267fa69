//! Addresses as operators write them: one, or a range (RFC 4632).
//!
//! Invariant: an IPv4 address is the same whether it is written as such or mapped into IPv6, on either side.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// Bits before the IPv4 address in `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange(IpNet);

/// Neither an address nor a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a range: 10.0.0.5, 10.0.0.0/8 or 2001:db8::/32 for example")]
pub struct AddressRangeError;

// === impl AddressRange ===

impl AddressRange {
    /// Whether it has `ip`.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }

    /// Whether one of `ranges` has `ip`.
    pub fn any_contains(ranges: &[Self], ip: IpAddr) -> bool {
        let canonical = ip.to_canonical();
        ranges.iter().any(|range| range.0.contains(&canonical))
    }
}

impl TryFrom<String> for AddressRange {
    type Error = AddressRangeError;

    fn try_from(text: String) -> Result<Self, AddressRangeError> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> String {
        range.to_string()
    }
}

impl From<IpAddr> for AddressRange {
    fn from(ip: IpAddr) -> Self {
        Self(IpNet::from(ip.to_canonical()))
    }
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        let range: IpNet = text.parse().map_err(|_| AddressRangeError)?;
        let mapped = match range {
            IpNet::V4(_) => None,
            IpNet::V6(range) => range.addr().to_ipv4_mapped().zip(range.prefix_len().checked_sub(MAPPED_BITS)),
        };
        let range = match mapped {
            Some((ip, bits)) => Ipv4Net::new(ip, bits).map_err(|_| AddressRangeError)?.into(),
            None => range,
        };
        Ok(Self(range.trunc()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(range: &str, ip: &str) -> bool {
        range.parse::<AddressRange>().expect("a range").contains(ip.parse().expect("an address"))
    }

    #[test]
    fn single_addresses_and_ranges_of_both_families_are_understood() {
        assert!(has("10.0.0.0/8", "10.255.0.1") && !has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("10.1.2.3/8", "10.9.9.9"), "bits of a host do not count");
        assert!(has("192.0.2.1", "192.0.2.1") && !has("192.0.2.1", "192.0.2.2"));
        assert!(has("2001:db8::/32", "2001:db8:1::1") && !has("2001:db8::/32", "2001:db9::1"));
        assert!(has("::1", "::1") && !has("0.0.0.0/0", "::1") && !has("::/0", "10.0.0.1"));
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        assert!(has("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(has("::ffff:10.0.0.0/104", "10.3.0.1") && has("::ffff:10.0.0.0/104", "::ffff:10.3.0.1"));
        assert!(!has("::ffff:10.0.0.0/104", "11.0.0.1") && has("::ffff:10.0.0.1", "10.0.0.1"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/", "::/129", "10.0.0.0/8,11.0.0.0/8", " ::1"] {
            assert!(text.parse::<AddressRange>().is_err(), "{text:?}");
        }
    }
}
