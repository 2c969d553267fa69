//! How etcd is reached.
//!
//! Invariant: no `Debug` text and no error of this module shows a password, nor an endpoint that might hold one.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper_014::Uri;

/// Endpoints of one cluster: three or five members, and room for addresses of both families.
pub const MAX_ENDPOINTS: usize = 16;

/// How etcd is reached.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// `http://host:port` or `https://host:port`. They are tried in this order, at most one after the other.
    pub endpoints: Vec<String>,
    /// How `https` endpoints are verified; needed by them and by them alone.
    pub tls: Option<TlsConfig>,
    /// Who logs in; without it, etcd must not ask for a login.
    pub credentials: Option<Credentials>,
    /// How long one call may take, over all the endpoints that it tries; each gets an equal share of what is left.
    pub request_timeout: Duration,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// After how much silence a connection with a call or a watch on it is probed. etcd drops clients that probe more
    /// often than every five seconds.
    pub keep_alive_interval: Duration,
    /// How long the answer to a probe may take before the connection is given up, and its watches with it.
    pub keep_alive_timeout: Duration,
}

/// How `https` endpoints are verified. The files are read once, when the registry is made.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// PEM file with the authorities that may vouch for etcd.
    pub ca_file: PathBuf,
    /// PEM file with the certificate chain that is shown to etcd.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of `cert_file`.
    pub key_file: Option<PathBuf>,
}

/// Who logs in to etcd.
#[derive(Clone)]
pub struct Credentials {
    /// Name of the etcd user.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Why a configuration cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdConfigError {
    /// Nothing to connect to.
    #[error("etcd needs at least one endpoint")]
    NoEndpoint,
    /// More than a cluster has.
    #[error("{0} etcd endpoints are more than {MAX_ENDPOINTS}")]
    TooManyEndpoints(usize),
    /// One endpoint does not parse; it is not repeated because it might hold a password.
    #[error("etcd endpoint {position} {fault}")]
    Endpoint {
        /// Its place in the list, from 1.
        position: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A certificate without its key, or the other way round.
    #[error("etcd's cert_file and key_file go together")]
    HalfAnIdentity,
    /// A file cannot be used.
    #[error("{file} cannot be used for etcd: {reason}")]
    File {
        /// Which one.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// OpenSSL would not do as asked.
    #[error("TLS towards etcd cannot be set up: {0}")]
    Tls(String),
    /// There is no tokio runtime to run the connections on.
    #[error("the etcd registry must be made inside a tokio runtime")]
    NoRuntime,
}

// === impl EtcdConfig ===

impl EtcdConfig {
    /// `endpoints`, without TLS and login, and with the usual time limits.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: None,
            credentials: None,
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
        }
    }

    /// Whether the endpoints can work, before anything connects.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), EtcdConfigError> {
        self.uris().map(|_| ())
    }

    /// The endpoints as addresses.
    pub(super) fn uris(&self) -> Result<Vec<Uri>, EtcdConfigError> {
        if self.endpoints.is_empty() {
            return Err(EtcdConfigError::NoEndpoint);
        }
        if self.endpoints.len() > MAX_ENDPOINTS {
            return Err(EtcdConfigError::TooManyEndpoints(self.endpoints.len()));
        }
        let parse = |(index, endpoint): (usize, &String)| {
            parse_endpoint(endpoint, self.tls.is_some())
                .map_err(|fault| EtcdConfigError::Endpoint { position: index + 1, fault })
        };
        self.endpoints.iter().enumerate().map(parse).collect()
    }
}

fn parse_endpoint(endpoint: &str, has_tls: bool) -> Result<Uri, &'static str> {
    let uri: Uri = endpoint.parse().map_err(|_| "is not of the form http://host:port or https://host:port")?;
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user or a password: they belong in the credentials");
    }
    if uri.port_u16().is_none() {
        return Err("names no port");
    }
    if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() {
        return Err("must end after the port");
    }
    match (uri.scheme_str(), has_tls) {
        (Some("https"), true) | (Some("http"), false) => Ok(uri),
        (Some("https"), false) => Err("is https, which needs a ca_file"),
        (Some("http"), true) => Err("is http although TLS is configured"),
        _ => Err("is neither http nor https"),
    }
}

// === impl Credentials ===

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(endpoint: &str) -> String {
        EtcdConfig::new(["http://127.0.0.1:2379", endpoint]).uris().expect_err("faulty").to_string()
    }

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        for endpoint in ["http://127.0.0.1:2379", "http://etcd-0.internal:2379/", "http://[::1]:2379"] {
            assert_eq!(EtcdConfig::new([endpoint]).uris().map(|uris| uris.len()), Ok(1), "{endpoint}");
        }
        for endpoint in ["", "127.0.0.1:2379", "http://host", "ftp://host:1", "http://host:1/path", "http://host:1?a=b"]
        {
            assert!(fault(endpoint).starts_with("etcd endpoint 2 "), "{endpoint}");
        }
        assert_eq!(EtcdConfig::new::<String>([]).uris(), Err(EtcdConfigError::NoEndpoint));
        let many = EtcdConfig::new(vec!["http://host:1"; MAX_ENDPOINTS + 1]);
        assert_eq!(many.uris(), Err(EtcdConfigError::TooManyEndpoints(MAX_ENDPOINTS + 1)));
    }

    #[test]
    fn https_and_a_ca_file_go_together() {
        assert!(fault("https://127.0.0.1:2379").contains("needs a ca_file"));
        let mut config = EtcdConfig::new(["http://127.0.0.1:2379"]);
        config.tls = Some(TlsConfig { ca_file: "ca.pem".into(), cert_file: None, key_file: None });
        assert!(config.uris().is_err());
        config.endpoints = vec!["https://127.0.0.1:2379".to_owned()];
        assert!(config.uris().is_ok());
    }

    #[test]
    fn no_text_shows_a_password() {
        let mut config = EtcdConfig::new(["http://127.0.0.1:2379"]);
        config.credentials = Some(Credentials { user: "edge".to_owned(), password: "hunter2".to_owned() });
        assert!(format!("{config:?}").contains("edge"));
        assert!(!format!("{config:?}").contains("hunter2"));
        let with_password = fault("http://edge:hunter2@127.0.0.1:2379");
        assert!(with_password.contains("credentials") && !with_password.contains("hunter2"), "{with_password}");
    }
}
