//! The configuration file of `appproxy-coordinator`.
//!
//! Invariant: `sample.toml` is a file that this reads, with every key and its default.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use program::log::LogSettings;
use program::registry::RegistrySettings;
use program::settings::{SettingFaults, Settings};

use crate::config::api::{ApiConfig, ApiLimits};
use crate::config::{Config, Timing};
use crate::keys::{ApiKey, file};
use crate::signing::SigningKeys;
use crate::store::DatabaseConfig;

/// A commented configuration file.
pub const SAMPLE: &str = include_str!("../sample.toml");

/// What the file says.
#[derive(Debug, Clone)]
pub struct CoordinatorSettings {
    /// Where the API listens.
    pub bind: SocketAddr,
    /// How the coordinator runs.
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
pub fn read(mut settings: Settings<'_>) -> Result<CoordinatorSettings, SettingFaults> {
    let bind = settings.or("api", "bind", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6120)));
    let keys = read_keys(&mut settings);
    let signing_keys = read_signing_keys(&mut settings);
    let (keys, keys_file) = keys.unzip();
    let api = ApiConfig { keys_file, ..read_api(&mut settings) };
    let database = read_database(&mut settings);
    let registry = RegistrySettings::read(&mut settings);
    let timing = read_timing(&mut settings);
    let log = LogSettings::read(&mut settings);
    let parts = keys.zip(signing_keys).zip(database).zip(registry);
    settings.finish(parts.map(|(((keys, signing_keys), database), registry)| CoordinatorSettings {
        bind,
        config: Config { database, keys, signing_keys, api, timing },
        registry,
        log,
    }))
}

fn read_keys(settings: &mut Settings<'_>) -> Option<(Vec<ApiKey>, PathBuf)> {
    let path: PathBuf = settings.required("api", "keys_file")?;
    let fault = match std::fs::read_to_string(&path) {
        Ok(text) => match file::parse(&text) {
            Ok(keys) => return Some((keys, path)),
            Err(faults) => faults.join("; "),
        },
        Err(error) => error.to_string(),
    };
    settings.refuse("api", "keys_file", &format!("{}: {fault}", path.display()));
    None
}

fn read_signing_keys(settings: &mut Settings<'_>) -> Option<SigningKeys> {
    let Some(text) = settings.secret("access", "signing_keys") else {
        let detail = "is required: signing_keys_file names a file with a line from `openssl rand -hex 32`, the same for \
                      all coordinators";
        settings.refuse("access", "signing_keys", detail);
        return None;
    };
    match SigningKeys::parse(text.expose()) {
        Ok(keys) => Some(keys),
        Err(faults) => {
            settings.refuse("access", "signing_keys", &faults.join("; "));
            None
        }
    }
}

fn read_api(settings: &mut Settings<'_>) -> ApiConfig {
    let default = ApiLimits::default();
    let mut count = |key, default: usize, most| {
        let default = u64::try_from(default).unwrap_or(most);
        usize::try_from(settings.number("api", key, default, 1, most)).unwrap_or(usize::MAX)
    };
    let max_requests = count("max_requests", default.max_requests, 16_384);
    let max_connections = count("max_connections", default.max_connections, 65_536);
    let max_connections_per_client = count("max_connections_per_client", default.max_connections_per_client, 65_536);
    let mut seconds = |key, default: Duration, least, most| {
        Duration::from_secs(settings.number("api", key, default.as_secs(), least, most))
    };
    let limits = ApiLimits {
        max_requests,
        max_connections,
        max_connections_per_client,
        head_timeout: seconds("head_timeout_s", default.head_timeout, 1, 60),
        body_timeout: seconds("body_timeout_s", default.body_timeout, 1, 60),
        // More than `?wait_s=` and `apply_timeout_ms` may be.
        request_timeout: seconds("request_timeout_s", default.request_timeout, 65, 600),
        idle_timeout: seconds("idle_timeout_s", default.idle_timeout, 1, 3_600),
        write_timeout: seconds("write_timeout_s", default.write_timeout, 1, 600),
    };
    ApiConfig {
        trusted_proxies: settings.list("api", "trusted_proxies").unwrap_or_default(),
        metrics_allowed: settings.list("api", "metrics_allowed").unwrap_or_else(ApiConfig::loopback),
        require_tls: settings.or("api", "require_tls", false),
        limits,
        ..ApiConfig::default()
    }
}

fn read_database(settings: &mut Settings<'_>) -> Option<DatabaseConfig> {
    let max_connections = settings.number("database", "max_connections", 16, 2, 200);
    let Some(url) = settings.secret("database", "url") else {
        settings.refuse("database", "url", "is required, postgres://USER:PASSWORD@HOST/NAME for example; or url_file");
        return None;
    };
    let url = url.expose();
    if !url.starts_with("postgres://") && !url.starts_with("sqlite://") {
        settings.refuse("database", "url", "must begin with postgres:// or sqlite://");
        return None;
    }
    Some(DatabaseConfig::shared(url, u32::try_from(max_connections).unwrap_or(16)))
}

fn read_timing(settings: &mut Settings<'_>) -> Timing {
    const DAY_S: u64 = 24 * 3_600;
    let default = Timing::default();
    let mut seconds = |section, key, default: Duration, least, most| {
        Duration::from_secs(settings.number(section, key, default.as_secs(), least, most))
    };
    let port_rest = seconds("circuits", "port_rest_s", default.port_rest, 1, DAY_S);
    let host_rest = seconds("circuits", "subdomain_rest_s", default.host_rest, 1, 365 * DAY_S);
    let max_staleness = seconds("circuits", "max_staleness_s", default.max_staleness, 60, 30 * DAY_S);
    let worker_lost_after = seconds("workers", "lost_after_s", default.worker_lost_after, 12, 3_600);
    let reconcile_interval = seconds("registry", "reconcile_interval_s", default.reconcile_interval, 1, 3_600);
    let apply_timeout_ms = settings.number("circuits", "apply_timeout_ms", 2_000, 100, 60_000);
    Timing {
        apply_timeout: Duration::from_millis(apply_timeout_ms),
        port_rest,
        host_rest,
        max_staleness,
        worker_lost_after,
        reconcile_interval,
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_a_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        std::fs::write(&keys, "manager 0123456789abcdef\nworker fedcba9876543210\n").expect("writable");
        let signing = folder.path().join("signing-keys");
        std::fs::write(&signing, "ab".repeat(32)).expect("writable");
        let over = [
            ("APPPROXY_API__KEYS_FILE".to_owned(), keys.display().to_string()),
            ("APPPROXY_ACCESS__SIGNING_KEYS_FILE".to_owned(), signing.display().to_string()),
        ];
        let read = read(Settings::new("sample.toml", SAMPLE, over, &|path| std::fs::read(path))).expect("faultless");
        let timing = format!("{:?}", read.config.timing);
        assert_eq!(timing, format!("{:?}", Timing::default()), "the sample shows the defaults");
    }

    #[test]
    fn an_empty_file_is_told_everything_that_it_lacks() {
        let faults =
            read(Settings::new("c.toml", "", [], &|path| std::fs::read(path))).expect_err("faulty").to_string();
        for key in ["[api] keys_file", "[access] signing_keys", "[database] url", "[registry] endpoints"] {
            assert!(faults.contains(key), "{faults}");
        }
    }

    #[test]
    fn no_fault_and_no_debug_text_shows_the_password_of_the_database() {
        let text = "[database]\nurl = \"mysql://user:hush-hush@host/name\"\n";
        let faults = read(Settings::new("c.toml", text, [], &|path| std::fs::read(path))).expect_err("faulty");
        assert!(faults.to_string().contains("must begin with postgres://"), "{faults}");
        assert!(!faults.to_string().contains("hush"), "{faults}");
    }
}
