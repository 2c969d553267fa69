//! Where the edge may connect to.
//!
//! Anyone who may open a circuit chooses where the edge connects (SSRF). These rules limit that. They hold for addresses,
//! after names are looked up.
//!
//! Invariant: the edge never connects to a socket of its own, to the coordinator, to the registry, or to an address that is
//! nobody's service.

mod own_ports;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use entities::range::AddressRange;
use http::Uri;

use crate::config::{Config, Listeners, TargetRules};
pub(crate) use own_ports::OwnPorts;

/// Where clouds tell machines their secrets, besides link-local addresses: AWS over IPv6, Alibaba Cloud, Oracle Cloud.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// How long the start may wait for the look-up of one of the proxy's parts.
const LOOK_UP_TIME: Duration = Duration::from_secs(2);

/// The rules of one edge.
#[derive(Clone, Default)]
pub(crate) struct Egress {
    /// Whether targets may be on this machine's loopback addresses.
    pub(crate) allows_loopback: bool,
    /// If there are any, targets must be in one of them.
    pub(crate) allowed: Vec<AddressRange>,
    /// Targets must be in none of them.
    pub(crate) denied: Vec<AddressRange>,
    /// Sockets of the proxy's own parts: the coordinator, the registry.
    pub(crate) own: Vec<SocketAddr>,
    /// Addresses of this machine.
    pub(crate) local: Vec<IpAddr>,
    /// Ports of this machine on which parts of the proxy listen, besides those of circuits.
    pub(crate) own_ports: Vec<u16>,
    /// The ports of circuits.
    pub(crate) circuit_ports: Arc<OwnPorts>,
}

/// An address that the edge does not connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the edge does not connect to {address}: {reason}")]
pub(crate) struct Forbidden {
    address: SocketAddr,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    NoHost,
    Loopback,
    LinkLocal,
    Metadata,
    Own,
    Denied,
    NotAllowed,
}

// === impl Egress ===

impl Egress {
    /// The rules of the edge that `config` describes; `circuit_ports` are those that it opens as it goes.
    pub(crate) async fn new(config: &Config, listeners: &Listeners, circuit_ports: Arc<OwnPorts>) -> Self {
        let TargetRules { allows_loopback, allowed, denied, own, .. } = config.targets.clone();
        let coordinator = config.coordinator_url.parse().ok().and_then(|url: Uri| place_of(&url));
        let own = find(own.into_iter().chain(coordinator)).await;
        let traffic = listeners.traffic.local_addr().map(|address| address.port()).into_iter();
        // What listens on loopback may listen on every address of the machine.
        let neighbours = own.iter().filter(|socket| socket.ip().is_loopback()).map(SocketAddr::port);
        Self {
            own_ports: traffic.chain(neighbours).collect(),
            allows_loopback,
            allowed,
            denied,
            own,
            local: local_addresses(),
            circuit_ports,
        }
    }

    /// Refuses an address that the edge may not connect to.
    pub(crate) fn check(&self, address: SocketAddr) -> Result<(), Forbidden> {
        match self.reason_against(address) {
            None => Ok(()),
            Some(reason) => Err(Forbidden { address, reason }),
        }
    }

    fn reason_against(&self, address: SocketAddr) -> Option<Reason> {
        // An IPv4 address that is written as one of IPv6 (RFC 4291 §2.5.5.2) is judged as what it is.
        let ip = address.ip().to_canonical();
        let is_in = |ranges: &[AddressRange]| AddressRange::any_contains(ranges, ip);
        if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
            Some(Reason::NoHost)
        } else if METADATA.contains(&ip) {
            Some(Reason::Metadata)
        } else if is_link_local(ip) {
            Some(Reason::LinkLocal)
        } else if self.is_own(ip, address.port()) {
            Some(Reason::Own)
        } else if ip.is_loopback() && !self.allows_loopback {
            Some(Reason::Loopback)
        } else if is_in(&self.denied) {
            Some(Reason::Denied)
        } else if !self.allowed.is_empty() && !is_in(&self.allowed) {
            Some(Reason::NotAllowed)
        } else {
            None
        }
    }

    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        if self.own.iter().any(|own| own.port() == port && own.ip().to_canonical() == ip) {
            return true;
        }
        if !ip.is_loopback() && !self.local.contains(&ip) {
            return false;
        }
        self.own_ports.contains(&port) || self.circuit_ports.contains(port)
    }
}

/// `host:port` of an address of a service.
fn place_of(url: &Uri) -> Option<String> {
    let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
    Some(format!("{}:{}", url.host()?, url.port_u16().unwrap_or(default)))
}

/// The sockets that these parts of the proxy have now. What cannot be found is said and left out: an edge starts while its
/// coordinator is away.
async fn find(parts: impl Iterator<Item = String>) -> Vec<SocketAddr> {
    let mut sockets = Vec::new();
    for part in parts {
        match tokio::time::timeout(LOOK_UP_TIME, tokio::net::lookup_host(&part)).await {
            Ok(Ok(found)) => sockets.extend(found),
            Ok(Err(error)) => {
                tracing::warn!(%part, %error, "a part of the proxy cannot be found and may become a target")
            }
            Err(_) => tracing::warn!(%part, "a part of the proxy is not found in time and may become a target"),
        }
    }
    sockets
}

/// RFC 3927, RFC 4291 §2.5.6.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The addresses of this machine's interfaces.
pub(crate) fn local_addresses() -> Vec<IpAddr> {
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "the addresses of this machine cannot be read");
            return Vec::new();
        }
    };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    interfaces.filter_map(address).collect()
}

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoHost => "no host has this address",
            Self::Loopback => "loopback addresses are not allowed",
            Self::LinkLocal => "link-local addresses are not allowed",
            Self::Metadata => "it is where a cloud keeps the secrets of its machines",
            Self::Own => "it belongs to the proxy itself",
            Self::Denied => "it is in a denied range",
            Self::NotAllowed => "it is in no allowed range",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn against(egress: &Egress, address: &str) -> Option<Reason> {
        egress.check(address.parse().expect("valid")).err().map(|forbidden| forbidden.reason)
    }

    #[test]
    fn nobodys_addresses_are_refused_whatever_is_allowed() {
        let egress = Egress {
            allows_loopback: true,
            allowed: vec!["0.0.0.0/0".parse().expect("valid"), "::/0".parse().expect("valid")],
            ..Egress::default()
        };
        for (address, reason) in [
            ("0.0.0.0:80", Reason::NoHost),
            ("[::]:80", Reason::NoHost),
            ("224.0.0.1:80", Reason::NoHost),
            ("255.255.255.255:80", Reason::NoHost),
            ("169.254.169.254:80", Reason::LinkLocal),
            ("[::ffff:169.254.169.254]:80", Reason::LinkLocal),
            ("[fe80::1]:80", Reason::LinkLocal),
            ("[fd00:ec2::254]:80", Reason::Metadata),
            ("100.100.100.200:80", Reason::Metadata),
        ] {
            assert_eq!(against(&egress, address), Some(reason), "{address}");
        }
        assert_eq!(against(&egress, "127.0.0.1:80"), None);
        assert_eq!(against(&egress, "10.0.0.1:80"), None);
    }

    #[test]
    fn loopback_is_refused_unless_it_is_allowed() {
        for address in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(against(&Egress::default(), address), Some(Reason::Loopback), "{address}");
        }
    }

    #[test]
    fn ranges_are_allowed_and_denied() {
        let egress = Egress {
            allowed: vec!["10.0.0.0/8".parse().expect("valid"), "2001:db8::/32".parse().expect("valid")],
            denied: vec!["10.1.0.0/16".parse().expect("valid")],
            ..Egress::default()
        };
        assert_eq!(against(&egress, "10.0.0.1:80"), None);
        assert_eq!(against(&egress, "[2001:db8::1]:80"), None);
        assert_eq!(against(&egress, "10.1.0.1:80"), Some(Reason::Denied));
        assert_eq!(against(&egress, "[::ffff:10.1.0.1]:80"), Some(Reason::Denied));
        assert_eq!(against(&egress, "192.168.0.1:80"), Some(Reason::NotAllowed));
    }

    #[test]
    fn sockets_of_the_proxy_itself_are_refused_at_every_address_of_the_machine() {
        let egress = Egress {
            allows_loopback: true,
            own: vec!["10.0.0.2:6120".parse().expect("valid")],
            local: vec!["10.0.0.7".parse().expect("valid")],
            own_ports: vec![6130],
            ..Egress::default()
        };
        for address in ["127.0.0.1:6130", "127.0.0.2:6130", "[::1]:6130", "10.0.0.7:6130", "10.0.0.2:6120"] {
            assert_eq!(against(&egress, address), Some(Reason::Own), "{address}");
        }
        for address in ["10.0.0.8:6130", "127.0.0.1:6131", "10.0.0.2:80"] {
            assert_eq!(against(&egress, address), None, "{address}");
        }
    }

    #[test]
    fn this_machine_has_addresses() {
        assert!(local_addresses().iter().any(|ip| ip.is_loopback()));
    }
}
