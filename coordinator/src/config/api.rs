//! How the API is served, and to whom.
//!
//! Invariant: what callers can make grow or wait has its limit here, with its arithmetic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use entities::range::AddressRange;

/// How the API is served.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// The file that the keys are from; it is read again when it changes.
    pub keys_file: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Who may read `/metrics` and `/status` without a key.
    pub metrics_allowed: Vec<AddressRange>,
    /// Whether plain HTTP is refused, from callers and to workers. Loopback is no exception.
    pub require_tls: bool,
    /// What callers may take.
    pub limits: ApiLimits,
}

/// What callers of the API may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiLimits {
    /// Requests at the same time: with a body of [`entities::limits::MAX_API_BODY_BYTES`] each they hold 64 MiB.
    pub max_requests: usize,
    /// Connections at the same time: with a head of [`MAX_HEAD_BYTES`] each they hold 32 MiB.
    pub max_connections: usize,
    /// Connections of one client address, or of one /64 of IPv6.
    pub max_connections_per_client: usize,
    /// How long the head of a request may take, for the first one of a connection from its beginning on.
    pub head_timeout: Duration,
    /// How long the body may take.
    pub body_timeout: Duration,
    /// How long an answer may take; more than `?wait_s=` and opening may wait.
    pub request_timeout: Duration,
    /// How long a connection may wait for its next request; more than an edge's heartbeats are apart.
    pub idle_timeout: Duration,
    /// How long a caller may take nothing of an answer.
    pub write_timeout: Duration,
}

/// The longest head of a request: a cursor and two keys are a few hundred bytes, what browsers and proxies add 8 KiB.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Header fields of a request; browsers and proxies send 30.
pub const MAX_HEAD_FIELDS: usize = 64;

// === impl ApiConfig ===

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            keys_file: None,
            trusted_proxies: Vec::new(),
            metrics_allowed: Self::loopback(),
            require_tls: false,
            limits: ApiLimits::default(),
        }
    }
}

impl ApiConfig {
    /// The addresses of this machine to itself.
    pub fn loopback() -> Vec<AddressRange> {
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(AddressRange::from).into()
    }
}

// === impl ApiLimits ===

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            max_requests: 512,
            max_connections: 2_048,
            max_connections_per_client: 512,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(90),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
        }
    }
}
