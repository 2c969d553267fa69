//! What an edge is told from outside.
//!
//! Invariant: worker keys never appear in a log; [`Config`]'s `Debug` leaves them out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use entities::authority::Authority;
use entities::clock::{SharedClock, SystemClock};
use entities::host::HostName;
use entities::ids::{BootId, WorkerId};
use entities::range::AddressRange;
use entities::token::CookieKey;

use crate::connection::Secure;
use crate::freshness::MaxStaleness;
pub use crate::limits::TimeLimits;
pub use crate::memory::{MemoryRules, ceiling_of_control_group};

/// Settings of one edge.
#[derive(Clone)]
pub struct Config {
    /// The edge's own name.
    pub worker_id: WorkerId,
    /// This run of the process.
    pub boot_id: BootId,
    /// Whose circuits are served.
    pub authority: Authority,
    /// The edge's share of the authority's traffic.
    pub weight: u16,
    /// Where dynamic ports bind.
    pub port_address: IpAddr,
    /// Where the coordinator reaches the worker API, `http://10.0.0.7:6130` for example.
    pub api_url: String,
    /// Hosts that reach the worker API besides IP literals and `localhost`.
    pub api_names: Vec<HostName>,
    /// Who may read `/metrics` and `/status`.
    pub api_allowed: Vec<AddressRange>,
    /// Proxies that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<AddressRange>,
    /// Proxies whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol_from: Vec<AddressRange>,
    /// The coordinator, without a trailing slash.
    pub coordinator_url: String,
    /// Proves edge and coordinator to each other.
    pub worker_key: String,
    /// What cookies are made with: the first makes them, all are read. The edges of an authority have the same.
    pub cookie_keys: Vec<CookieKey>,
    /// Further keys that a coordinator may prove itself with.
    pub accepted_keys: Vec<String>,
    /// The file that `worker_key` is from; it is read again when it changes.
    pub key_file: Option<PathBuf>,
    /// The file that `accepted_keys` are from, one in a line; it is read again when it changes.
    pub accepted_keys_file: Option<PathBuf>,
    /// Whether coordinators are answered over TLS only.
    pub requires_tls: bool,
    /// How long clients may take.
    pub client: ClientLimits,
    /// How often the coordinator hears from the edge.
    pub heartbeat_interval: Duration,
    /// How long the edge says that it is unready before it stops accepting.
    pub announce_time: Duration,
    /// How long requests in flight may go on when the edge stops.
    pub shutdown_drain: Duration,
    /// Time limits of circuits that say nothing about them.
    pub limits: TimeLimits,
    /// How long a public circuit may go unconfirmed by the registry before it takes no new requests.
    pub max_staleness_public: Duration,
    /// The same for a private circuit.
    pub max_staleness_private: Duration,
    /// Where the circuits that are served are kept for a restart; `None` keeps them nowhere.
    pub data_dir: Option<PathBuf>,
    /// How often the registry is asked again about circuits that it stopped naming, too many at once to be believed.
    pub held_back_relist_interval: Duration,
    /// Whether the edge keeps a key of its own in the registry.
    pub has_worker_key_in_registry: bool,
    /// How often the lease of that key is kept alive.
    pub keep_alive_interval: Duration,
    /// How much memory the process may take.
    pub memory: MemoryRules,
    /// Whose connections are not counted as those of one client: load balancers that do not say who their clients are.
    pub uncounted_clients: Vec<AddressRange>,
    /// Where targets may be.
    pub targets: TargetRules,
    /// Tells how old the snapshot is.
    pub clock: SharedClock,
    /// What carries plain requests of HTTP/1.
    pub http1: Http1Engine,
    /// What secures connections, on all ports; nothing, unless a test does.
    pub secure: Option<Arc<dyn Secure>>,
}

/// What carries plain requests of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Http1Engine {
    /// Pingora's engine, as for everything else.
    #[default]
    Pingora,
    /// The edge's own engine.
    Exchange,
}

impl FromStr for Http1Engine {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pingora" => Ok(Self::Pingora),
            "exchange" => Ok(Self::Exchange),
            _ => Err("must be pingora or exchange"),
        }
    }
}

/// Where targets may be, and when they are tried.
///
/// Link-local addresses, the metadata services of clouds and the edge's own sockets are refused whatever stands here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRules {
    /// Whether they may be on loopback addresses of this machine.
    pub allows_loopback: bool,
    /// If there are any, targets must be in one of these ranges.
    pub allowed: Vec<AddressRange>,
    /// Targets must be in none of these ranges.
    pub denied: Vec<AddressRange>,
    /// `host:port` of the proxy's other parts, which are no targets: the registry, the coordinator's database.
    pub own: Vec<String>,
    /// Whether targets that look down are tried when all of a circuit do.
    pub fails_open: bool,
}

/// What clients may take of time and of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// How long a connection may wait for its next request.
    pub idle: Duration,
    /// How long a connection of HTTP/2 may be open without a stream.
    pub http2_idle: Duration,
    /// How long the head of a request may take from its first byte on.
    pub head: Duration,
    /// How long a client may take nothing of an answer. It bounds how long one that stopped reading costs memory.
    pub write: Duration,
    /// How long the content of a request of HTTP/1.1 may bring nothing before the target has begun to answer.
    pub body: Option<Duration>,
    /// How many bytes of content a second a request of HTTP/1.1 must bring on average, after the time of
    /// `body` and before the target has begun to answer; 0 is any pace.
    pub body_bytes_per_s: u64,
    /// Requests of one HTTP/1.1 connection, and streams of one HTTP/2 connection; 0 is no cap.
    pub max_requests: u64,
    /// Connections from one address, IPv6 by the first 64 bits; 0 is no cap.
    pub max_connections_per_client: usize,
    /// Answers that nobody takes, in the whole edge: the next one is ended at once instead of after the time of `write`.
    pub max_stalled: usize,
    /// Requests, streams, tunnels and byte streams that are open in one circuit; 0 is no cap.
    pub max_open_per_circuit: usize,
}

/// Sockets that are bound before the edge starts.
#[derive(Debug)]
pub struct Listeners {
    /// The traffic port: subdomain circuits by `Host`, and the worker API beside them.
    pub traffic: TcpListener,
}

// === impl Config ===

impl Config {
    /// The defaults around what every edge must be told.
    pub fn new(
        worker_id: WorkerId,
        authority: Authority,
        api_url: String,
        coordinator_url: String,
        worker_key: String,
    ) -> Self {
        Self {
            worker_id,
            boot_id: BootId::random(),
            authority,
            weight: 1,
            port_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            api_url,
            api_names: Vec::new(),
            api_allowed: loopback(),
            trusted_proxies: Vec::new(),
            proxy_protocol_from: Vec::new(),
            coordinator_url,
            cookie_keys: vec![CookieKey::derived_from(&worker_key)],
            worker_key,
            accepted_keys: Vec::new(),
            key_file: None,
            accepted_keys_file: None,
            requires_tls: false,
            client: ClientLimits::default(),
            heartbeat_interval: Duration::from_secs(10),
            announce_time: Duration::ZERO,
            shutdown_drain: Duration::from_secs(10),
            limits: TimeLimits {
                connect: Duration::from_secs(3),
                // Model servers think for minutes before they answer.
                first_byte: Some(Duration::from_secs(300)),
                idle: None,
                drain: Duration::from_secs(30),
            },
            max_staleness_public: Duration::from_secs(24 * 3600),
            max_staleness_private: Duration::from_secs(3600),
            data_dir: None,
            held_back_relist_interval: Duration::from_secs(30),
            has_worker_key_in_registry: true,
            keep_alive_interval: Duration::from_secs(5),
            memory: MemoryRules::default(),
            uncounted_clients: Vec::new(),
            targets: TargetRules::default(),
            clock: Arc::new(SystemClock),
            http1: Http1Engine::default(),
            secure: None,
        }
    }

    /// Both limits of staleness.
    pub(crate) fn max_staleness(&self) -> MaxStaleness {
        MaxStaleness { public: self.max_staleness_public, private: self.max_staleness_private }
    }
}

/// This machine.
pub(crate) fn loopback() -> Vec<AddressRange> {
    vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into(), IpAddr::V6(Ipv6Addr::LOCALHOST).into()]
}

// === impl TargetRules ===

impl Default for TargetRules {
    /// As fits one machine: loopback is where its services are.
    fn default() -> Self {
        Self { allows_loopback: true, allowed: Vec::new(), denied: Vec::new(), own: Vec::new(), fails_open: true }
    }
}

// === impl ClientLimits ===

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            // Clients of gRPC keep theirs for hours, and open another one when they need it.
            http2_idle: Duration::from_secs(300),
            // The longest head at the pace of a modem.
            head: Duration::from_secs(30),
            write: Duration::from_secs(60),
            body: Some(Duration::from_secs(60)),
            // A log that is uploaded while it is written has a line in a few seconds.
            body_bytes_per_s: 16,
            // Nothing is kept between requests, so this only spreads clients over the edges anew now and then.
            max_requests: 10_000,
            // An office of four hundred behind one address, each with six connections and twenty kernels.
            max_connections_per_client: 10_000,
            // Each costs 710 KiB: 180 MiB together.
            max_stalled: 256,
            // Half of the descriptors of a small edge: each has one here and one at its target.
            max_open_per_circuit: 10_000,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("worker_id", &self.worker_id)
            .field("boot_id", &self.boot_id)
            .field("authority", &self.authority)
            .field("weight", &self.weight)
            .field("port_address", &self.port_address)
            .field("api_url", &self.api_url)
            .field("api_names", &self.api_names)
            .field("api_allowed", &self.api_allowed)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("proxy_protocol_from", &self.proxy_protocol_from)
            .field("coordinator_url", &self.coordinator_url)
            .field("cookie_keys", &self.cookie_keys)
            .field("key_file", &self.key_file)
            .field("accepted_keys_file", &self.accepted_keys_file)
            .field("requires_tls", &self.requires_tls)
            .field("client", &self.client)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("drain_time", &self.limits.drain)
            .field("announce_time", &self.announce_time)
            .field("shutdown_drain", &self.shutdown_drain)
            .field("limits", &self.limits)
            .field("max_staleness_public", &self.max_staleness_public)
            .field("max_staleness_private", &self.max_staleness_private)
            .field("held_back_relist_interval", &self.held_back_relist_interval)
            .field("has_worker_key_in_registry", &self.has_worker_key_in_registry)
            .field("keep_alive_interval", &self.keep_alive_interval)
            .field("memory", &self.memory)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}
