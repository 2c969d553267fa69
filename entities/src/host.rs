//! Host names and subdomains in normal form.
//!
//! Invariant: a [`HostName`] is lower case, has no trailing dot and no port, so that equal hosts are equal strings.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_HOST_BYTES, MAX_NAME_BYTES};

/// Why a string is not a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Not labels of letters, digits and hyphens, joined by dots.
    #[error("must be labels of letters, digits and hyphens, joined by dots (RFC 1123 §2.1)")]
    Grammar,
    /// Longer than a name can be.
    #[error("is longer than 253 bytes")]
    TooLong,
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let is_inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    !bytes.is_empty()
        && bytes.len() <= MAX_NAME_BYTES
        && bytes.iter().all(is_inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// A DNS name in normal form (RFC 1123 §2.1; names compare without case, RFC 4343).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if lower.len() > MAX_HOST_BYTES {
            return Err(HostError::TooLong);
        }
        if lower.split('.').all(is_label) { Ok(Self(lower)) } else { Err(HostError::Grammar) }
    }
}

impl TryFrom<String> for HostName {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(host: HostName) -> String {
        host.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The one label that a circuit adds in front of a wildcard domain. A wildcard certificate and a wildcard DNS
/// record cover exactly one label (RFC 9525 §6.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subdomain(String);

/// Why a string is not a subdomain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subdomain is one label of 1 to 63 lower-case letters, digits and inner hyphens")]
pub struct SubdomainError;

impl Subdomain {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full name under `domain`.
    pub fn under(&self, domain: &HostName) -> Result<HostName, HostError> {
        format!("{}.{}", self.0, domain).parse()
    }
}

impl FromStr for Subdomain {
    type Err = SubdomainError;

    fn from_str(text: &str) -> Result<Self, SubdomainError> {
        if is_label(text) { Ok(Self(text.to_owned())) } else { Err(SubdomainError) }
    }
}

impl TryFrom<String> for Subdomain {
    type Error = SubdomainError;

    fn try_from(text: String) -> Result<Self, SubdomainError> {
        text.parse()
    }
}

impl From<Subdomain> for String {
    fn from(subdomain: Subdomain) -> String {
        subdomain.0
    }
}

impl fmt::Display for Subdomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Splits a `Host` header or `:authority` (RFC 9110 §7.2) into host and port.
///
/// The host comes back in normal form; it is borrowed when it was in normal form already, which is what browsers
/// send. `None` when it cannot be a host: empty, two dots at its end, a user part, a port that is no number.
pub fn split_host_header(value: &str) -> Option<(Cow<'_, str>, Option<u16>)> {
    let (host, port) = split_port(value)?;
    let host = host.strip_suffix('.').unwrap_or(host);
    // A second dot at the end would be left, and go the next time.
    if host.is_empty() || host.ends_with('.') || host.len() > MAX_HOST_BYTES {
        return None;
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if !host.bytes().all(is_allowed) {
        return None;
    }
    let normal = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Some((normal, port))
}

fn split_port(value: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if value.starts_with('[') {
        let end = value.find(']')? + 1;
        let (host, rest) = value.split_at_checked(end)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return None,
        }
    } else {
        match value.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (value, None),
        }
    };
    match port {
        // An empty port is allowed and means the default one (RFC 3986 §3.2.3).
        None | Some("") => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, Some(digits.parse().ok()?))),
        Some(_) => None,
    }
}

/// Whether `host`, in normal form, is an IP literal or `localhost`.
pub fn is_ip_or_localhost(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_header_loses_its_port_case_and_dot() {
        let cases = [
            ("Lab.Apps.Localhost:6130", Some(("lab.apps.localhost", Some(6130)))),
            ("lab.apps.localhost.", Some(("lab.apps.localhost", None))),
            ("lab.apps.localhost:", Some(("lab.apps.localhost", None))),
            ("[::1]:80", Some(("[::1]", Some(80)))),
            ("[::1]", Some(("[::1]", None))),
            ("127.0.0.1", Some(("127.0.0.1", None))),
            ("", None),
            (".", None),
            ("a:b", None),
            ("a:99999", None),
            ("user@host", None),
            ("[::1", None),
            ("[::1]x", None),
            ("a b", None),
        ];
        for (given, wanted) in cases {
            let found = split_host_header(given);
            let found = found.as_ref().map(|(host, port)| (host.as_ref(), *port));
            assert_eq!(found, wanted, "{given:?}");
        }
    }

    /// `lab.test..` became `lab.test.`, which is the same host as `lab.test` and another string.
    #[test]
    fn a_host_with_two_dots_at_its_end_has_no_normal_form() {
        for text in ["lab.test..", "lab.test..:80", "..", "LAB..", "[::1].."] {
            assert_eq!(split_host_header(text), None, "{text}");
        }
    }

    #[test]
    fn only_addresses_and_localhost_reach_the_worker_api() {
        for host in ["127.0.0.1", "[::1]", "10.1.2.3", "localhost"] {
            assert!(is_ip_or_localhost(host), "{host}");
        }
        for host in ["lab.localhost", "127.0.0.1.example.org", "example.org"] {
            assert!(!is_ip_or_localhost(host), "{host}");
        }
    }

    proptest! {
        #[test]
        fn splitting_never_panics_and_is_idempotent(text in "\\PC{0,80}") {
            if let Some((host, _)) = split_host_header(&text) {
                let again = split_host_header(&host).map(|(host, port)| (host.into_owned(), port));
                prop_assert_eq!(again, Some((host.to_string(), None)));
                prop_assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
        }

        #[test]
        fn a_host_name_is_its_own_normal_form(text in "[a-zA-Z0-9.-]{1,40}") {
            if let Ok(host) = text.parse::<HostName>() {
                prop_assert_eq!(host.as_str().parse::<HostName>(), Ok(host.clone()));
            }
        }
    }
}
