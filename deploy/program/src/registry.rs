//! The section `[registry]`, and the registry that it describes.
//!
//! Invariant: what is wrong with the section shows before anything connects.

use std::sync::Arc;
use std::time::Duration;

use entities::registry::Registry;
use entities::registry::etcd::EtcdRegistry;
use entities::registry::etcd::config::{Credentials, EtcdConfig, EtcdConfigError, TlsConfig};
use entities::registry::layout::{DEFAULT_PREFIX, Layout};

use crate::settings::Settings;

/// The kind of registry that a cluster has.
const ETCD: &str = "etcd";

/// How the registry is reached, and where in it our keys lie.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    etcd: EtcdConfig,
    /// Where our keys lie.
    pub layout: Layout,
}

// === impl RegistrySettings ===

impl RegistrySettings {
    /// The section `[registry]`; `None` if a fault was noted.
    pub fn read(settings: &mut Settings<'_>) -> Option<Self> {
        let kind = settings.or("registry", "kind", ETCD.to_owned());
        if kind != ETCD {
            settings.refuse("registry", "kind", "must be etcd: a registry in memory is for one process, `appproxy`");
        }
        let endpoints: Vec<String> = settings.list("registry", "endpoints").unwrap_or_default();
        let has_endpoints = !endpoints.is_empty();
        let prefix = settings.or("registry", "prefix", DEFAULT_PREFIX.to_owned());
        if !is_prefix(&prefix) {
            settings.refuse("registry", "prefix", "must begin with / and name something, /appproxy for example");
        }
        let mut etcd = EtcdConfig::new(endpoints);
        etcd.tls = read_tls(settings);
        etcd.credentials = read_credentials(settings);
        let timeout_ms = settings.number("registry", "request_timeout_ms", 5_000, 100, 60_000);
        etcd.request_timeout = Duration::from_millis(timeout_ms);
        if !has_endpoints {
            settings.refuse("registry", "endpoints", "is required, [\"http://127.0.0.1:2379\"] for example");
            return None;
        }
        if let Err(error) = etcd.check() {
            settings.refuse("registry", "endpoints", &error.to_string());
            return None;
        }
        Some(Self { etcd, layout: Layout::new(&prefix) })
    }

    /// Where its members are, as `host:port`.
    pub fn members(&self) -> Vec<String> {
        let place = |endpoint: &String| {
            let rest = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
            rest.trim_end_matches('/').to_owned()
        };
        self.etcd.endpoints.iter().map(place).collect()
    }

    /// The registry; it connects when it is first used.
    ///
    /// # Errors
    /// If a file of certificates cannot be used.
    pub fn open(&self) -> Result<Arc<dyn Registry>, EtcdConfigError> {
        Ok(Arc::new(EtcdRegistry::new(self.etcd.clone())?))
    }
}

fn is_prefix(prefix: &str) -> bool {
    prefix.starts_with('/') && !prefix.trim_end_matches('/').is_empty()
}

fn read_tls(settings: &mut Settings<'_>) -> Option<TlsConfig> {
    let ca_file = settings.optional("registry", "ca_file");
    let cert_file = settings.optional("registry", "cert_file");
    let key_file = settings.optional("registry", "key_file");
    if ca_file.is_none() && (cert_file.is_some() || key_file.is_some()) {
        settings.refuse("registry", "ca_file", "is required with cert_file and key_file");
    }
    Some(TlsConfig { ca_file: ca_file?, cert_file, key_file })
}

fn read_credentials(settings: &mut Settings<'_>) -> Option<Credentials> {
    let user: Option<String> = settings.optional("registry", "user");
    let password = settings.secret("registry", "password");
    match (user, password) {
        (Some(user), Some(password)) => Some(Credentials { user, password: password.expose().to_owned() }),
        (None, None) => None,
        (Some(_), None) => {
            settings.refuse("registry", "password", "is required with user; password_file names a file with it");
            None
        }
        (None, Some(_)) => {
            settings.refuse("registry", "user", "is required with password");
            None
        }
    }
}
