//! One connection per endpoint, made when it is first needed.
//!
//! etcd-rs would bring a TLS stack of its own and sets neither probes nor time limits, so its channel is built here.
//!
//! Invariant: a connection that let a call run into its time limit is not used for a later call.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_014::Uri;
use hyper_014::client::HttpConnector;
use hyper_openssl::HttpsConnector;
use hyper_timeout::TimeoutConnector;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod};
use openssl::x509::store::X509StoreBuilder;
use tonic::transport::{Channel, Endpoint as Settings};

use super::config::{EtcdConfig, EtcdConfigError, TlsConfig};

/// ALPN's name of HTTP/2, with its length in front (RFC 7301 §3.1).
const ALPN_H2: &[u8] = b"\x02h2";

/// One member of the cluster.
pub(super) struct Endpoint {
    name: String,
    settings: Settings,
    tls: Option<TlsConnector>,
    current: Mutex<Connection>,
}

/// A channel that connects when it is used, and connects again when the connection broke.
#[derive(Clone)]
pub(super) struct Connection {
    number: u64,
    pub(super) channel: Channel,
}

/// Makes connections over TLS; plain ones the channel makes itself.
type TlsConnector = TimeoutConnector<HttpsConnector<HttpConnector>>;

// === impl Endpoint ===

impl Endpoint {
    /// Every endpoint of `config`; none is connected to yet.
    pub(super) fn all(config: &EtcdConfig) -> Result<Vec<Self>, EtcdConfigError> {
        let uris = config.uris()?;
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(EtcdConfigError::NoRuntime);
        }
        let tls = config.tls.as_ref().map(|tls| tls_connector(tls, config.connect_timeout)).transpose()?;
        Ok(uris.into_iter().map(|uri| Self::new(uri, config, tls.clone())).collect())
    }

    fn new(uri: Uri, config: &EtcdConfig, tls: Option<TlsConnector>) -> Self {
        let name = uri.authority().map(ToString::to_string).unwrap_or_default();
        // Probing an idle connection as well would make etcd close it: it allows that once in two hours.
        let settings = Settings::from(uri)
            .connect_timeout(config.connect_timeout)
            .http2_keep_alive_interval(config.keep_alive_interval)
            .keep_alive_timeout(config.keep_alive_timeout)
            .keep_alive_while_idle(false);
        let current = Mutex::new(Connection { number: 0, channel: channel(&settings, tls.as_ref()) });
        Self { name, settings, tls, current }
    }

    /// Host and port.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The connection to use now.
    pub(super) fn connection(&self) -> Connection {
        self.lock().clone()
    }

    /// Later calls get a new connection instead of `failed`. What runs on it already, such as a watch, may go on.
    pub(super) fn give_up(&self, failed: &Connection) {
        let mut current = self.lock();
        if current.number == failed.number {
            let channel = channel(&self.settings, self.tls.as_ref());
            *current = Connection { number: failed.number + 1, channel };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn channel(settings: &Settings, tls: Option<&TlsConnector>) -> Channel {
    match tls {
        None => settings.connect_lazy(),
        Some(tls) => settings.connect_with_connector_lazy(tls.clone()),
    }
}

fn tls_connector(tls: &TlsConfig, timeout: Duration) -> Result<TlsConnector, EtcdConfigError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnector::with_connector(tcp, tls_settings(tls)?).map_err(tls_error)?;
    // The channel applies its own time limit only to connectors of its own.
    let mut connector = TimeoutConnector::new(connector);
    connector.set_connect_timeout(Some(timeout));
    Ok(connector)
}

fn tls_settings(tls: &TlsConfig) -> Result<SslConnectorBuilder, EtcdConfigError> {
    let mut settings = SslConnector::builder(SslMethod::tls_client()).map_err(tls_error)?;
    // Only the given authorities: the system's would let anybody with a public certificate pose as etcd.
    settings.set_cert_store(X509StoreBuilder::new().map_err(tls_error)?.build());
    settings.set_ca_file(&tls.ca_file).map_err(|error| file_error(&tls.ca_file, &error))?;
    settings.set_alpn_protos(ALPN_H2).map_err(tls_error)?;
    match (&tls.cert_file, &tls.key_file) {
        (None, None) => {}
        (Some(cert), Some(key)) => {
            settings.set_certificate_chain_file(cert).map_err(|error| file_error(cert, &error))?;
            settings.set_private_key_file(key, SslFiletype::PEM).map_err(|error| file_error(key, &error))?;
            settings.check_private_key().map_err(|error| file_error(key, &error))?;
        }
        _ => return Err(EtcdConfigError::HalfAnIdentity),
    }
    Ok(settings)
}

fn file_error(file: &Path, error: &ErrorStack) -> EtcdConfigError {
    EtcdConfigError::File { file: file.to_owned(), reason: error.to_string() }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err asks for")]
fn tls_error(error: ErrorStack) -> EtcdConfigError {
    EtcdConfigError::Tls(error.to_string())
}
