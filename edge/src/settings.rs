//! The configuration file of `appproxy-edge`.
//!
//! Invariant: `sample.toml` is a file that this reads, with every key and its default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use entities::authority::{Authority, DomainFrontends, PortFrontends, PortRange, Scheme};
use entities::host::HostName;
use entities::ids::{AuthorityName, Port, WorkerId};
use entities::range::AddressRange;
use entities::target::TargetHost;
use entities::token::CookieKey;
use http::Uri;
use program::log::LogSettings;
use program::registry::RegistrySettings;
use program::settings::{SettingFaults, Settings};

use crate::config::{
    ClientLimits, Config, Http1Engine, MemoryRules, TargetRules, TimeLimits, ceiling_of_control_group, loopback,
};
use crate::limits::unless_zero;

/// A commented configuration file.
pub const SAMPLE: &str = include_str!("../sample.toml");

/// The ports that circuits may get unless the file says otherwise.
const DEFAULT_PORTS: &str = "30000-30999";

/// Short secrets can be guessed: 32 bytes are 128 random bits in hexadecimal.
const MIN_COOKIE_SECRET_BYTES: usize = 32;
/// The highest memory ceiling: 16 TiB.
const MAX_MEMORY_MB: u64 = 16 * 1024 * 1024;

/// What the file says.
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// Where subdomain traffic comes in.
    pub traffic: SocketAddr,
    /// How the edge runs.
    pub config: Config,
    /// Where the registry is.
    pub registry: RegistrySettings,
    /// What is logged.
    pub log: LogSettings,
}

/// Reads the whole file.
///
/// # Errors
/// Every fault.
pub fn read(mut settings: Settings<'_>) -> Result<EdgeSettings, SettingFaults> {
    let traffic = settings.or("listen", "traffic", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6130)));
    let worker_id: Option<WorkerId> = settings.required("worker", "id");
    let authority = read_authority(&mut settings, traffic);
    let api_url = read_url(&mut settings, "worker", "api_url");
    let coordinator_url = read_url(&mut settings, "coordinator", "url");
    let key = settings.secret("coordinator", "key");
    if key.is_none() {
        settings.refuse("coordinator", "key", "is required; key_file names a file with it");
    }
    let accepted_keys = settings.secrets("coordinator", "accepted_keys");
    let key_file: Option<PathBuf> = settings.optional("coordinator", "key_file");
    let accepted_keys_file: Option<PathBuf> = settings.optional("coordinator", "accepted_keys_file");
    let requires_tls = settings.or("coordinator", "require_tls", false);
    for (section, key, url) in [("coordinator", "url", &coordinator_url), ("worker", "api_url", &api_url)] {
        let is_plain = url.as_ref().is_some_and(|(url, _)| !url.starts_with("https://"));
        if requires_tls && is_plain {
            settings.refuse(section, key, "must be an https address with [coordinator] require_tls");
        }
    }
    let registry = RegistrySettings::read(&mut settings);
    let data_dir: Option<PathBuf> = settings.required("data", "dir");
    let base = worker_id.zip(authority).zip(api_url.clone()).zip(coordinator_url).zip(key);
    let config = base.map(|((((worker_id, authority), api_url), coordinator_url), key)| {
        Config::new(worker_id, authority, api_url.0, coordinator_url.0, key.expose().to_owned())
    });
    let cookie_keys = read_cookie_keys(&mut settings);
    let over = Over::read(&mut settings);
    let log = LogSettings::read(&mut settings);
    let config = config.map(|config| Config {
        data_dir,
        // While worker keys are exchanged, cookies of the one before are read.
        cookie_keys: cookie_keys.unwrap_or_else(|| {
            let secrets = std::iter::once(config.worker_key.as_str());
            let accepted = accepted_keys.iter().map(|key| key.expose());
            secrets.chain(accepted).map(CookieKey::derived_from).collect()
        }),
        accepted_keys: accepted_keys.iter().map(|key| key.expose().to_owned()).collect(),
        key_file,
        accepted_keys_file,
        requires_tls,
        // Coordinators that use the edge's name must reach its API, not a circuit.
        api_names: api_url.and_then(|(_, host)| host).into_iter().collect(),
        ..over.over(config)
    });
    settings.finish(config.zip(registry).map(|(mut config, registry)| {
        config.targets.own.extend(registry.members());
        EdgeSettings { traffic, config, registry, log }
    }))
}

/// Settings that have defaults.
struct Over {
    weight: u16,
    port_address: IpAddr,
    http1: Http1Engine,
    api_allowed: Option<Vec<AddressRange>>,
    trusted_proxies: Vec<AddressRange>,
    proxy_protocol_from: Vec<AddressRange>,
    client: ClientLimits,
    uncounted_clients: Vec<AddressRange>,
    heartbeat_interval: Duration,
    memory: MemoryRules,
    targets: TargetRules,
    announce_time: Duration,
    shutdown_drain: Duration,
    limits: TimeLimits,
    max_staleness_public: Duration,
    max_staleness_private: Duration,
}

// === impl Over ===

impl Over {
    fn read(settings: &mut Settings<'_>) -> Self {
        const DAY_S: u64 = 24 * 3_600;
        let weight = settings.number("worker", "weight", 1, 0, 1_000);
        let connect_ms = settings.number("circuits", "connect_timeout_ms", 3_000, 10, 60_000);
        let first_byte_ms = settings.number("circuits", "first_byte_timeout_ms", 300_000, 0, 3_600_000);
        let idle_s = settings.number("circuits", "idle_timeout_s", 0, 0, 7 * DAY_S);
        let memory_mb = settings.number("limits", "memory_mb", 0, 0, MAX_MEMORY_MB);
        let body_s = settings.number("listen", "body_timeout_s", 60, 0, DAY_S);
        let body_bytes_per_s = settings.number("listen", "body_bytes_per_s", 16, 0, 1_000_000);
        let max_requests = settings.number("limits", "requests_per_connection", 10_000, 0, u64::from(u32::MAX));
        let mut cap = |key| usize::try_from(settings.number("limits", key, 10_000, 0, 10_000_000)).unwrap_or_default();
        let max_connections_per_client = cap("connections_per_client");
        let max_open_per_circuit = cap("open_per_circuit");
        let max_stalled = settings.number("limits", "stalled_readers", 256, 1, 1_000_000);
        let mut seconds = |section, key, default, least, most| {
            Duration::from_secs(settings.number(section, key, default, least, most))
        };
        Self {
            weight: u16::try_from(weight).unwrap_or(1),
            client: ClientLimits {
                idle: seconds("listen", "idle_timeout_s", 60, 1, DAY_S),
                http2_idle: seconds("listen", "http2_idle_timeout_s", 300, 1, DAY_S),
                head: seconds("listen", "head_timeout_s", 30, 1, 3_600),
                write: seconds("listen", "write_timeout_s", 60, 1, DAY_S),
                body: unless_zero(Duration::from_secs(body_s)),
                body_bytes_per_s,
                max_requests,
                max_connections_per_client,
                max_open_per_circuit,
                max_stalled: usize::try_from(max_stalled).unwrap_or_default(),
            },
            heartbeat_interval: seconds("coordinator", "heartbeat_interval_s", 10, 1, 60),
            announce_time: seconds("shutdown", "announce_s", 5, 0, 300),
            shutdown_drain: seconds("shutdown", "drain_s", 30, 0, DAY_S),
            max_staleness_public: seconds("circuits", "max_staleness_s", DAY_S, 60, 30 * DAY_S),
            max_staleness_private: seconds("circuits", "max_staleness_private_s", 3_600, 60, 30 * DAY_S),
            limits: TimeLimits {
                connect: Duration::from_millis(connect_ms),
                first_byte: unless_zero(Duration::from_millis(first_byte_ms)),
                idle: unless_zero(Duration::from_secs(idle_s)),
                drain: seconds("circuits", "drain_s", 30, 0, DAY_S),
            },
            memory: MemoryRules { ceiling_bytes: memory_ceiling(memory_mb), ..MemoryRules::default() },
            targets: TargetRules {
                allows_loopback: settings.or("targets", "allow_loopback", false),
                allowed: settings.list("targets", "allowed").unwrap_or_default(),
                denied: settings.list("targets", "denied").unwrap_or_default(),
                own: settings.list("targets", "own").unwrap_or_default(),
                fails_open: settings.or("targets", "fail_open", true),
            },
            port_address: settings.or("listen", "port_address", IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            http1: settings.or("listen", "http1", Http1Engine::default()),
            api_allowed: settings.list("listen", "api_allowed"),
            trusted_proxies: settings.list("listen", "trusted_proxies").unwrap_or_default(),
            proxy_protocol_from: settings.list("listen", "proxy_protocol_from").unwrap_or_default(),
            uncounted_clients: settings.list("limits", "uncounted_clients").unwrap_or_default(),
        }
    }

    fn over(self, config: Config) -> Config {
        Config {
            weight: self.weight,
            port_address: self.port_address,
            http1: self.http1,
            api_allowed: self.api_allowed.unwrap_or_else(loopback),
            trusted_proxies: self.trusted_proxies,
            proxy_protocol_from: self.proxy_protocol_from,
            client: self.client,
            uncounted_clients: self.uncounted_clients,
            heartbeat_interval: self.heartbeat_interval,
            memory: self.memory,
            targets: self.targets,
            announce_time: self.announce_time,
            shutdown_drain: self.shutdown_drain,
            limits: self.limits,
            max_staleness_public: self.max_staleness_public,
            max_staleness_private: self.max_staleness_private,
            ..config
        }
    }
}

/// What cookies are made with, if not with the worker key.
fn read_cookie_keys(settings: &mut Settings<'_>) -> Option<Vec<CookieKey>> {
    let secrets = settings.secret("access", "cookie_secrets")?;
    let lines = secrets.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let secrets: Vec<&str> = lines.collect();
    if secrets.is_empty() || secrets.iter().any(|secret| secret.len() < MIN_COOKIE_SECRET_BYTES) {
        let detail = "must be lines of at least 32 bytes each; `openssl rand -hex 32` makes one";
        settings.refuse("access", "cookie_secrets", detail);
        return None;
    }
    Some(secrets.into_iter().map(CookieKey::derived_from).collect())
}

/// A ceiling as it is written down: zero is what the system gives the process.
pub fn memory_ceiling(mb: u64) -> Option<u64> {
    match mb {
        0 => ceiling_of_control_group(),
        _ => Some(mb.saturating_mul(1024 * 1024)),
    }
}

fn read_authority(settings: &mut Settings<'_>, traffic: SocketAddr) -> Option<Authority> {
    let name: Option<AuthorityName> = settings.required("worker", "authority");
    let domain: Option<HostName> = settings.optional("listen", "domain");
    let public_scheme: Scheme = settings.or("listen", "public_scheme", Scheme::Http);
    let public_port = settings.number("listen", "public_port", u64::from(traffic.port()), 0, 65_535);
    let port_host: Option<TargetHost> = settings.optional("listen", "port_host");
    let has_ports = settings.is_set("listen", "ports");
    let ports: Option<PortRange> = settings.optional("listen", "ports");
    let ports = if has_ports { ports } else { DEFAULT_PORTS.parse().ok() };
    if domain.is_none() && port_host.is_none() {
        settings.refuse("listen", "domain", "or port_host is required: circuits need one way in at least");
    }
    if has_ports && port_host.is_none() {
        settings.refuse("listen", "port_host", "is required with ports");
    }
    let public_port = u16::try_from(public_port).ok().and_then(|number| Port::try_from(number).ok());
    if public_port.is_none() {
        settings.refuse("listen", "public_port", "is required when the port of traffic is 0");
    }
    let subdomains =
        domain.zip(public_port).map(|(domain, public_port)| DomainFrontends { domain, public_scheme, public_port });
    let ports = port_host.zip(ports).map(|(host, ports)| PortFrontends { host, ports, public_scheme });
    Some(Authority { name: name?, subdomains, ports })
}

/// An address without a path, and its host if that is a name.
fn read_url(
    settings: &mut Settings<'_>,
    section: &'static str,
    key: &'static str,
) -> Option<(String, Option<HostName>)> {
    let text: String = settings.required(section, key)?;
    let uri = text.parse::<Uri>().ok().filter(|uri| matches!(uri.path(), "" | "/") && uri.query().is_none());
    let host = uri.as_ref().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https"))).and_then(Uri::host);
    let Some(host) = host else {
        settings.refuse(section, key, "must be of the form http://HOST:PORT");
        return None;
    };
    let name = host.parse().ok().filter(|_| host.parse::<IpAddr>().is_err());
    Some((text.trim_end_matches('/').to_owned(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, over: &[(&str, &str)]) -> Result<EdgeSettings, String> {
        let over = over.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let key = |_: &std::path::Path| Ok(b"worker-key".to_vec());
        read(Settings::new("edge.toml", text, over, &key)).map_err(|faults| faults.to_string())
    }

    #[test]
    fn the_sample_is_a_configuration_and_shows_the_defaults() {
        let read = read_text(SAMPLE, &[]).expect("faultless");
        let EdgeSettings { traffic, config, .. } = read;
        assert_eq!(traffic, "0.0.0.0:6130".parse().expect("valid"));
        let authority = config.authority.clone();
        let defaults = Config::new(config.worker_id.clone(), authority, String::new(), String::new(), String::new());
        assert_eq!(config.client, defaults.client);
        assert_eq!(config.heartbeat_interval, defaults.heartbeat_interval);
        assert_eq!(config.max_staleness_public, defaults.max_staleness_public);
        assert_eq!(config.max_staleness_private, defaults.max_staleness_private);
        assert_eq!(config.limits, defaults.limits);
        // A cluster's services are on other machines, and etcd is none of them.
        let own = vec!["127.0.0.1:2379".to_owned()];
        assert_eq!(config.targets, TargetRules { allows_loopback: false, own, ..defaults.targets });
        assert_eq!(config.worker_key, "worker-key");
        // Every line that is commented out is a default, so turning all of them on changes nothing.
        let is_value = |line: &str| {
            let text = line.strip_prefix("# ")?;
            let is_file = [
                "ca_file",
                "cert_file",
                "key_file",
                "accepted_keys_file",
                "cookie_secrets_file",
                "user",
                "password_file",
            ];
            let (name, _) = text.split_once(" = ")?;
            let is_key = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            (is_key && !is_file.contains(&name)).then(|| text.to_owned())
        };
        let all: String = SAMPLE.lines().map(|line| is_value(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
        let spelled_out = read_text(&all, &[]).expect("faultless");
        let without_boot = |config: Config| Config { boot_id: defaults.boot_id, ..config };
        assert_eq!(format!("{:?}", without_boot(spelled_out.config)), format!("{:?}", without_boot(config)));
    }

    #[test]
    fn an_empty_file_is_told_everything_that_it_lacks() {
        let faults = read_text("", &[]).expect_err("faulty");
        let required =
            ["[worker] id", "[worker] authority", "[worker] api_url", "[listen] domain", "[coordinator] url"];
        for key in required.into_iter().chain(["[coordinator] key", "[registry] endpoints", "[data] dir"]) {
            assert!(faults.contains(key), "{key} is missing in\n{faults}");
        }
    }

    #[test]
    fn an_address_is_no_more_than_that() {
        for url in ["10.0.0.2:6120", "ftp://host:1", "http://host:1/path", "http://host:1?a", "http://"] {
            let faults = read_text(SAMPLE, &[("APPPROXY_COORDINATOR__URL", url)]).expect_err("faulty");
            assert!(faults.contains("APPPROXY_COORDINATOR__URL: must be of the form"), "{url}: {faults}");
        }
    }

    #[test]
    fn where_tls_is_required_every_plain_address_is_a_fault_of_its_line() {
        let faults = read_text(SAMPLE, &[("APPPROXY_COORDINATOR__REQUIRE_TLS", "true")]).expect_err("faulty");
        let line_of = |key: &str| 1 + SAMPLE.lines().position(|line| line.starts_with(key)).expect("in the sample");
        for (section, key) in [("coordinator", "url"), ("worker", "api_url")] {
            let place = format!("edge.toml:{}: [{section}] {key}: must be an https address", line_of(key));
            assert!(faults.contains(&place), "{place} is missing in\n{faults}");
        }
        let strict = [
            ("APPPROXY_COORDINATOR__REQUIRE_TLS", "true"),
            ("APPPROXY_COORDINATOR__URL", "https://coordinator.internal"),
            ("APPPROXY_WORKER__API_URL", "https://edge-1.internal:6130"),
        ];
        assert!(read_text(SAMPLE, &strict).expect("faultless").config.requires_tls);
    }

    #[test]
    fn accepted_keys_stand_in_the_file_or_in_one_of_their_own_and_are_not_shown() {
        let direct = read_text(SAMPLE, &[("APPPROXY_COORDINATOR__ACCEPTED_KEYS", "old-key,older-key")]).expect("valid");
        assert_eq!(direct.config.accepted_keys, ["old-key", "older-key"]);
        assert!(!format!("{:?}", direct.config).contains("old-key"));
        let by_file = read_text(SAMPLE, &[("APPPROXY_COORDINATOR__ACCEPTED_KEYS_FILE", "/run/keys")]).expect("valid");
        assert_eq!(by_file.config.accepted_keys, ["worker-key"]);
        assert_eq!(by_file.config.accepted_keys_file, Some(PathBuf::from("/run/keys")));
        assert_eq!(by_file.config.key_file, Some(PathBuf::from("/etc/appproxy/worker.key")));
    }

    #[test]
    fn an_entry_that_is_no_range_is_a_fault_and_not_passed_over() {
        for key in ["TRUSTED_PROXIES", "PROXY_PROTOCOL_FROM", "API_ALLOWED"] {
            let name = format!("APPPROXY_LISTEN__{key}");
            let faults = read_text(SAMPLE, &[(&name, "10.0.0.0/8,10.0.0.0/33,proxy.test")]).expect_err("faulty");
            for entry in ["\"10.0.0.0/33\"", "\"proxy.test\""] {
                assert!(faults.contains(&name) && faults.contains(entry), "{faults}");
            }
        }
        let read = read_text(SAMPLE, &[("APPPROXY_LISTEN__TRUSTED_PROXIES", "10.0.0.0/8,::1")]).expect("faultless");
        assert_eq!(read.config.trusted_proxies.len(), 2);
    }

    #[test]
    fn the_name_in_the_api_address_reaches_the_api() {
        let named = read_text(SAMPLE, &[("APPPROXY_WORKER__API_URL", "http://edge-1.internal:6130/")]).expect("valid");
        assert_eq!(named.config.api_url, "http://edge-1.internal:6130");
        assert_eq!(named.config.api_names, ["edge-1.internal".parse().expect("valid")]);
        let by_address = read_text(SAMPLE, &[]).expect("valid");
        assert!(by_address.config.api_names.is_empty());
    }
}
