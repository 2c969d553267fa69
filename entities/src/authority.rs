//! The addresses that clients use, and the URLs made of them.
//!
//! Invariant: every URL of a circuit comes from [`Authority::url`], so that what a client is told is what is served.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::circuit::Protocol;
use crate::frontend::Frontend;
use crate::host::HostName;
use crate::ids::{AuthorityName, Port};
use crate::limits::MAX_PORT_RANGE;
use crate::target::TargetHost;

/// The ports that an authority gives to circuits, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: Port,
    last: Port,
}

/// Why a string is not a range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a port range is FIRST-LAST with 1 <= FIRST <= LAST <= 65535 and at most {MAX_PORT_RANGE} ports")]
pub struct PortRangeError;

impl PortRange {
    /// From `first` to `last`.
    pub fn new(first: Port, last: Port) -> Result<Self, PortRangeError> {
        let range = Self { first, last };
        let is_valid = first <= last && range.len() <= MAX_PORT_RANGE;
        if is_valid { Ok(range) } else { Err(PortRangeError) }
    }

    /// The first port.
    pub fn first(self) -> Port {
        self.first
    }

    /// The last port.
    pub fn last(self) -> Port {
        self.last
    }

    /// How many ports; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a range holds at least one port")]
    pub fn len(self) -> u32 {
        u32::from(self.last.number()) + 1 - u32::from(self.first.number())
    }

    /// Whether `port` is one of them.
    pub fn contains(self, port: Port) -> bool {
        self.first <= port && port <= self.last
    }

    /// The port `index` places after the first, counted round the end.
    pub fn at(self, index: u32) -> Port {
        let offset = u16::try_from(index % self.len()).unwrap_or(0);
        Port::try_from(self.first.number().saturating_add(offset)).unwrap_or(self.first)
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let (first, last) = text.split_once('-').ok_or(PortRangeError)?;
        let port = |digits: &str| digits.trim().parse::<u16>().ok().and_then(|number| Port::try_from(number).ok());
        Self::new(port(first).ok_or(PortRangeError)?, port(last).ok_or(PortRangeError)?)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

impl TryFrom<String> for PortRange {
    type Error = PortRangeError;

    fn try_from(text: String) -> Result<Self, PortRangeError> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        range.to_string()
    }
}

/// What clients put before `://`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Plain.
    #[default]
    Http,
    /// Over TLS, which something in front of the edge may end.
    Https,
}

impl Scheme {
    /// The word in front of `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that URLs leave out.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err("must be http or https".to_owned()),
        }
    }
}

/// Subdomains: a wildcard domain, as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainFrontends {
    /// The domain under which each circuit has one label.
    pub domain: HostName,
    /// The scheme that clients use.
    pub public_scheme: Scheme,
    /// The port that clients use.
    pub public_port: Port,
}

/// Ports: a host with a range, as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFrontends {
    /// The host that clients use.
    pub host: TargetHost,
    /// The ports that circuits get.
    pub ports: PortRange,
    /// The scheme that clients use.
    pub public_scheme: Scheme,
}

/// The address that clients use. One or more workers serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Its name.
    pub name: AuthorityName,
    /// Subdomain circuits, if it takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomains: Option<DomainFrontends>,
    /// Port circuits, if it takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortFrontends>,
}

impl Authority {
    /// Where clients find a circuit of this protocol: `http://…/`, or `ssh://HOST:PORT` and the like for a byte stream.
    /// `None` if the authority does not take such frontends (any more).
    pub fn url(&self, frontend: &Frontend, protocol: Protocol) -> Option<String> {
        match frontend {
            Frontend::Subdomain { host, .. } => {
                let way_in = self.subdomains.as_ref()?;
                let scheme = way_in.public_scheme;
                let port = way_in.public_port.number();
                if port == scheme.default_port() {
                    Some(format!("{}://{host}/", scheme.as_str()))
                } else {
                    Some(format!("{}://{host}:{port}/", scheme.as_str()))
                }
            }
            Frontend::Port { port } => {
                let way_in = self.ports.as_ref()?;
                let host = way_in.host.as_str();
                let (scheme, path) = match protocol.stream_scheme() {
                    Some(scheme) => (scheme, ""),
                    None => (way_in.public_scheme.as_str(), "/"),
                };
                if host.contains(':') {
                    Some(format!("{scheme}://[{host}]:{port}{path}"))
                } else {
                    Some(format!("{scheme}://{host}:{port}{path}"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(scheme: Scheme, port: u16) -> Authority {
        Authority {
            name: "main".parse().expect("valid"),
            subdomains: Some(DomainFrontends {
                domain: "apps.example.org".parse().expect("valid"),
                public_scheme: scheme,
                public_port: Port::try_from(port).expect("valid"),
            }),
            ports: Some(PortFrontends {
                host: "::1".parse().expect("valid"),
                ports: "30000-30999".parse().expect("valid"),
                public_scheme: scheme,
            }),
        }
    }

    #[test]
    fn urls_leave_the_default_port_out() {
        let frontend = Frontend::Subdomain {
            subdomain: "lab".parse().expect("valid"),
            host: "lab.apps.example.org".parse().expect("valid"),
        };
        assert_eq!(
            authority(Scheme::Https, 443).url(&frontend, Protocol::Http).as_deref(),
            Some("https://lab.apps.example.org/")
        );
        assert_eq!(
            authority(Scheme::Http, 6130).url(&frontend, Protocol::Http).as_deref(),
            Some("http://lab.apps.example.org:6130/")
        );
        let port = Frontend::Port { port: Port::try_from(30_007).expect("valid") };
        let url = |protocol| authority(Scheme::Http, 80).url(&port, protocol);
        assert_eq!(url(Protocol::Http).as_deref(), Some("http://[::1]:30007/"));
        assert_eq!(url(Protocol::Ssh).as_deref(), Some("ssh://[::1]:30007"));
    }

    #[test]
    fn a_range_counts_round_its_end() {
        let range: PortRange = "30000-30002".parse().expect("valid");
        assert_eq!(range.len(), 3);
        assert_eq!(range.at(4).number(), 30_001);
        for wrong in ["", "1", "2-1", "0-5", "1-65536", "a-b", "1-65535"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong:?}");
        }
    }
}
