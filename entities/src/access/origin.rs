//! Web origins: what browsers say a page comes from.
//!
//! Invariant: an [`Origin`] has the one form in which browsers write it, so that equal origins are equal strings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::authority::Scheme;
use crate::host::split_host_header;

/// Scheme, host and port (RFC 6454 §6.2); the default port of the scheme is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

/// Why a string is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an origin, https://lab.example.org or http://10.0.0.5:8080 for example: no path, no wildcard")]
pub struct OriginError;

// === impl Origin ===

impl Origin {
    /// The origin of what is at `host`, the value of a `Host` field, by `scheme`.
    pub fn new(scheme: Scheme, host: &str) -> Option<Self> {
        let (host, port) = split_host_header(host)?;
        let scheme_name = scheme.as_str();
        Some(Self(match port.filter(|port| *port != scheme.default_port()) {
            Some(port) => format!("{scheme_name}://{host}:{port}"),
            None => format!("{scheme_name}://{host}"),
        }))
    }

    /// The origin as browsers write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let (scheme, host) = text.split_once("://").ok_or(OriginError)?;
        let scheme: Scheme = scheme.parse().map_err(|_| OriginError)?;
        Self::new(scheme, host).ok_or(OriginError)
    }
}

impl TryFrom<String> for Origin {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> String {
        origin.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_the_form_in_which_browsers_write_it() {
        for (text, form) in [
            ("https://Lab.Example.org", "https://lab.example.org"),
            ("https://lab.example.org:443", "https://lab.example.org"),
            ("http://lab.example.org:80", "http://lab.example.org"),
            ("http://lab.example.org:443", "http://lab.example.org:443"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(text.parse::<Origin>().expect("valid").as_str(), form);
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "*",
            "null",
            "lab.test",
            "https://",
            "https://a.test/",
            "https://*.test",
            "ftp://a.test",
            "https://u@a",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
