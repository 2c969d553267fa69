//! Joins a coordinator and an edge in one process.
//!
//! Invariant: the edge ends before the coordinator, so that it can say goodbye and nobody is told of a dead edge.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use coordinator::config::Timing;
use coordinator::config::api::ApiConfig;
use coordinator::keys::{ApiKey, Scope};
use coordinator::signing::SigningKeys;
use coordinator::store::DatabaseConfig;
use entities::authority::{Authority, DomainFrontends, PortFrontends, PortRange, Scheme};
use entities::clock::SharedClock;
use entities::host::HostName;
use entities::ids::{AuthorityName, NameError, Port, WorkerId};
use entities::range::AddressRange;
use entities::registry::Registry;
use entities::registry::layout::Layout;

use entities::target::TargetHost;
use tokio::sync::watch;

use crate::data::Keys;

/// The one authority and the one worker of a standalone proxy.
const NAME: &str = "standalone";

/// How a standalone proxy runs.
#[derive(Clone)]
pub struct Config {
    /// The store.
    pub database_url: String,
    /// Who may call the API.
    pub keys: Keys,
    /// Where subdomain circuits have their names.
    pub domain: HostName,
    /// Which ports circuits may get.
    pub ports: PortRange,
    /// Where those ports listen.
    pub port_address: IpAddr,
    /// The host that clients use for them.
    pub port_host: TargetHost,
    /// The scheme that clients use.
    pub public_scheme: Scheme,
    /// What carries plain requests of HTTP/1.
    pub http1: edge::Http1Engine,
    /// The port that clients use for subdomains.
    pub public_port: Port,
    /// Proxies in front that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<AddressRange>,
    /// Proxies whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol_from: Vec<AddressRange>,
    /// Bytes that the process may take before it turns new connections away.
    pub memory_ceiling: Option<u64>,
    /// How long open connections of a closed circuit may go on.
    pub drain_time: Duration,
    /// The coordinator's time spans.
    pub timing: Timing,
}

/// The sockets of a standalone proxy.
#[derive(Debug)]
pub struct Listeners {
    api: TcpListener,
    edge: TcpListener,
}

/// Why a standalone proxy could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be bound.
    #[error("{what} cannot listen on {address}: {error}; choose another with {option}")]
    Bind {
        /// Which socket.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
        /// The option that moves it.
        option: &'static str,
    },
    /// A bound socket does not say where it is.
    #[error("a socket does not say where it listens: {0}")]
    Socket(#[from] std::io::Error),
    /// A name of ours is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The coordinator cannot run.
    #[error(transparent)]
    Coordinator(#[from] coordinator::RunError),
    /// The edge cannot run.
    #[error(transparent)]
    Edge(#[from] edge::RunError),
    /// The keys of private circuits are none.
    #[error("signing.keys in the data folder: {0}")]
    Signing(String),
    /// A part of the program failed, which is a defect.
    #[error("a part of the program failed: {0}")]
    Part(#[from] tokio::task::JoinError),
}

// === impl Listeners ===

impl Listeners {
    /// Binds both; port 0 takes any free one.
    pub fn bind(api: SocketAddr, edge: SocketAddr) -> Result<Self, ServeError> {
        let bind = |what, address, option| {
            TcpListener::bind(address).map_err(|error| ServeError::Bind { what, address, error, option })
        };
        Ok(Self { api: bind("the API", api, "--api")?, edge: bind("the edge", edge, "--edge")? })
    }

    /// Where the API listens.
    pub fn api_address(&self) -> Result<SocketAddr, ServeError> {
        Ok(self.api.local_addr()?)
    }

    /// Where the edge listens.
    pub fn edge_address(&self) -> Result<SocketAddr, ServeError> {
        Ok(self.edge.local_addr()?)
    }
}

/// Runs until `shutdown` becomes true, with `registry` between coordinator and edge.
pub async fn run(
    config: Config,
    listeners: Listeners,
    clock: SharedClock,
    registry: Arc<dyn Registry>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let api = local(listeners.api_address()?);
    let edge = local(listeners.edge_address()?);
    tracing::info!(address = %listeners.api_address()?, "the API listens");
    tracing::info!(address = %listeners.edge_address()?, "the edge listens");
    program::system::warn_of_ephemeral_ports(config.ports.first().number(), config.ports.last().number());

    let (stop_coordinator, coordinator_stopped) = watch::channel(false);
    let (stop_edge, edge_stopped) = watch::channel(false);
    let edge_config = edge_config(&config, api, edge)?;
    let mut coordinator = tokio::spawn(coordinator::run(
        coordinator_config(&config)?,
        Arc::clone(&registry),
        Layout::default(),
        clock,
        coordinator::Listeners { api: listeners.api },
        coordinator_stopped,
    ));
    let mut edge = tokio::spawn(edge::run(
        edge_config,
        registry,
        Layout::default(),
        edge::Listeners { traffic: listeners.edge },
        edge_stopped,
    ));
    tokio::select! {
        // A signal that nobody can give any more counts as given.
        _ = shutdown.wait_for(|is_down| *is_down) => {}
        ended = &mut coordinator => {
            edge.abort();
            return Ok(ended??);
        }
        ended = &mut edge => {
            coordinator.abort();
            return Ok(ended??);
        }
    }
    stop_edge.send_replace(true);
    let edge_ended = edge.await?;
    stop_coordinator.send_replace(true);
    let coordinator_ended = coordinator.await?;
    edge_ended?;
    Ok(coordinator_ended?)
}

fn coordinator_config(config: &Config) -> Result<coordinator::config::Config, ServeError> {
    let authority: AuthorityName = NAME.parse()?;
    let keys = vec![
        ApiKey::new(config.keys.manager.clone(), Scope::Manager).named("api.key"),
        ApiKey::new(config.keys.read.clone(), Scope::Read).named("read.key"),
        ApiKey::new(config.keys.worker.clone(), Scope::Worker { authorities: vec![authority] }).named("worker.key"),
    ];
    let signing_keys =
        SigningKeys::parse(&config.keys.signing).map_err(|faults| ServeError::Signing(faults.join("; ")))?;
    Ok(coordinator::config::Config {
        database: DatabaseConfig::own(&config.database_url),
        keys,
        signing_keys,
        api: ApiConfig::default(),
        timing: config.timing,
    })
}

fn edge_config(config: &Config, api: SocketAddr, edge: SocketAddr) -> Result<edge::Config, ServeError> {
    let authority = Authority {
        name: NAME.parse()?,
        subdomains: Some(DomainFrontends {
            domain: config.domain.clone(),
            public_scheme: config.public_scheme,
            public_port: config.public_port,
        }),
        ports: Some(PortFrontends {
            host: config.port_host.clone(),
            ports: config.ports,
            public_scheme: config.public_scheme,
        }),
    };
    let worker_id: WorkerId = NAME.parse()?;
    let edge_url = format!("http://{edge}");
    let api_url = format!("http://{api}");
    let mut settings = edge::Config::new(worker_id, authority, edge_url, api_url, config.keys.worker.clone());
    settings.port_address = config.port_address;
    settings.http1 = config.http1;
    settings.limits.drain = config.drain_time;
    settings.memory.ceiling_bytes = config.memory_ceiling;
    settings.trusted_proxies.clone_from(&config.trusted_proxies);
    settings.proxy_protocol_from.clone_from(&config.proxy_protocol_from);
    Ok(settings)
}

/// Where to connect to a socket that may listen on every address.
pub(crate) fn local(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], address.port())),
        _ => address,
    }
}
