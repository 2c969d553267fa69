//! Circuits by number.
//!
//! Invariant: a number names the same key and the same way in wherever it is used, and no two numbers meet.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use entities::access::Access;
use entities::authority::{Authority, DomainFrontends, PortFrontends, PortRange, Scheme};
use entities::balance::LoadBalancing;
use entities::circuit::{AppMode, Backend, Circuit, CircuitSpec, Protocol, Traffic, Versioned};
use entities::frontend::{Frontend, FrontendRequest};
use entities::host::Subdomain;
use entities::ids::{AuthorityName, CircuitId, CircuitKey, Generation, Port};
use entities::registry::layout::CircuitState;
use entities::target::Target;

/// The domain of every circuit here.
pub const DOMAIN: &str = "apps.localhost";

/// Which way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A name under [`DOMAIN`].
    Subdomain,
    /// A port of its own.
    Port,
}

impl Mode {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subdomain => "subdomain",
            Self::Port => "port",
        }
    }
}

/// The authority of an edge whose traffic port is `traffic_port` and whose circuits get `ports`.
pub fn authority(traffic_port: u16, ports: PortRange) -> Authority {
    Authority {
        name: authority_name(),
        subdomains: Some(DomainFrontends {
            domain: DOMAIN.parse().expect("valid"),
            public_scheme: Scheme::Http,
            public_port: Port::try_from(traffic_port).expect("bound"),
        }),
        ports: Some(PortFrontends { host: "127.0.0.1".parse().expect("valid"), ports, public_scheme: Scheme::Http }),
    }
}

/// The host of a subdomain circuit.
pub fn host(number: usize) -> String {
    format!("{}.{DOMAIN}", subdomain(number))
}

/// A circuit as edges get it.
pub fn circuit(mode: Mode, number: usize, ports: PortRange, target: SocketAddr) -> Circuit {
    let frontend = match mode {
        Mode::Subdomain => {
            let subdomain = subdomain(number);
            let host = subdomain.under(&DOMAIN.parse().expect("valid")).expect("short");
            Frontend::Subdomain { subdomain, host }
        }
        Mode::Port => Frontend::Port { port: ports.at(u32::try_from(number).expect("a port's number")) },
    };
    Circuit {
        id: CircuitId::random(),
        key: key(mode, number),
        authority: authority_name(),
        frontend,
        protocol: Protocol::Http,
        backend: Backend::Http,
        targets: vec![target_of(target)],
        load_balancing: LoadBalancing::default(),
        access: Access::for_everybody(),
        access_generation: Generation(1),
        traffic: Traffic::default(),
    }
}

/// A circuit's first value in the registry.
pub fn state(circuit: Circuit) -> CircuitState {
    CircuitState::Open(Box::new(Versioned { generation: Generation(1), circuit }))
}

/// A circuit as a manager asks for it.
pub fn spec(number: usize, target: SocketAddr) -> CircuitSpec {
    CircuitSpec {
        owner: format!("session-{number:05}").parse().expect("valid"),
        service: "jupyter".parse().expect("valid"),
        variant: None,
        app_mode: AppMode::Interactive,
        protocol: Protocol::Http,
        backend: Backend::Http,
        frontend: FrontendRequest::Subdomain { subdomain: Some(subdomain(number)) },
        targets: vec![target_of(target)],
        load_balancing: LoadBalancing::default(),
        access: Access::for_everybody(),
        traffic: Traffic::default(),
        labels: BTreeMap::new(),
    }
}

fn authority_name() -> AuthorityName {
    "main".parse().expect("valid")
}

fn key(mode: Mode, number: usize) -> CircuitKey {
    format!("session-{number:05}:jupyter:{}", mode.as_str()).parse().expect("valid")
}

fn subdomain(number: usize) -> Subdomain {
    format!("jupyter-{number:05}").parse().expect("valid")
}

/// A target at an address.
pub fn target_of(address: SocketAddr) -> Target {
    Target {
        host: address.ip().to_string().parse().expect("an address"),
        port: Port::try_from(address.port()).expect("not 0"),
        weight: 1,
    }
}
