//! Targets of circuits.

use entities::target::Target;

/// A target as a circuit says it.
pub fn target(host: &str, port: u16) -> Target {
    Target { host: host.parse().expect("a host"), port: port.try_into().expect("not 0"), weight: 1 }
}
