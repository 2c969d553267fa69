//! Tells the coordinator that the edge is there, that it still is, and that it leaves.
//!
//! Invariant: nothing here holds up traffic: an edge whose coordinator is away serves what it knows and keeps trying.

use std::sync::Arc;
use std::time::Duration;

use entities::worker::{Heartbeat, Registration};
use reqwest::{RequestBuilder, StatusCode};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::metrics::Metrics;

/// How long the coordinator may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long leaving may hold up the end of the process.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The first wait after an error, and the longest one.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The edge's side of the workers API.
#[derive(Clone)]
pub(crate) struct Registrar {
    http: reqwest::Client,
    worker_url: String,
    key: String,
    registration: Registration,
    heartbeat_interval: Duration,
    is_id_in_use: Arc<watch::Sender<bool>>,
    metrics: Arc<Metrics>,
}

/// What the coordinator made of a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is as we say.
    Accepted,
    /// It does not know this run of the edge, or another one has its name.
    Unknown(StatusCode),
}

/// Why a request came to nothing. Every case is tried again.
#[derive(Debug, thiserror::Error)]
enum CoordinatorError {
    /// It does not answer.
    #[error("the coordinator does not answer: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// It answers something else.
    #[error("the coordinator answers {0}")]
    Refused(StatusCode),
}

// === impl Registrar ===

impl Registrar {
    /// Speaks for the edge that `config` describes, and says whether another process has its id.
    pub(crate) fn new(
        config: &Config,
        is_id_in_use: watch::Sender<bool>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        // The coordinator is a neighbour: what the environment says about proxies is meant for elsewhere.
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build()?;
        let coordinator = config.coordinator_url.trim_end_matches('/');
        Ok(Self {
            http,
            worker_url: format!("{coordinator}/v2/workers/{}", config.worker_id),
            key: config.worker_key.clone(),
            registration: Registration {
                boot_id: config.boot_id,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                api_url: config.api_url.clone(),
                authority: config.authority.clone(),
                weight: config.weight,
            },
            heartbeat_interval: config.heartbeat_interval,
            is_id_in_use: Arc::new(is_id_in_use),
            metrics,
        })
    }

    /// Registers and sends heartbeats for ever.
    pub(crate) async fn run(self) {
        loop {
            self.register().await;
            self.send_heartbeats().await;
        }
    }

    /// Says good-bye; if it is not heard, the coordinator finds out by itself.
    pub(crate) async fn leave(&self) {
        let url = format!("{}?boot_id={}", self.worker_url, self.registration.boot_id);
        match self.send(self.http.delete(url).timeout(LEAVE_TIMEOUT)).await {
            Ok(_) => tracing::info!("left the coordinator"),
            Err(error) => tracing::warn!(%error, "the coordinator did not hear that the edge left"),
        }
    }

    /// Until the coordinator accepts.
    async fn register(&self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            match self.send(self.http.put(&self.worker_url).json(&self.registration)).await {
                Ok(Verdict::Accepted) => {
                    self.is_id_in_use.send_replace(false);
                    tracing::info!(url = self.worker_url, "registered at the coordinator");
                    return;
                }
                Ok(Verdict::Unknown(StatusCode::CONFLICT)) => {
                    self.is_id_in_use.send_replace(true);
                    tracing::error!(url = self.worker_url, "another live process has this worker id");
                }
                Ok(Verdict::Unknown(status)) => tracing::warn!(%status, "the coordinator does not register workers"),
                Err(error) => tracing::warn!(%error, "cannot register"),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Until the coordinator does not know the edge any more.
    async fn send_heartbeats(&self) {
        let url = format!("{}/heartbeat", self.worker_url);
        loop {
            tokio::time::sleep(self.heartbeat_interval).await;
            let heartbeat = Heartbeat {
                boot_id: self.registration.boot_id,
                circuits: as_count(self.metrics.circuits.get()),
                connections: as_count(self.metrics.connections_open.get()),
            };
            match self.send(self.http.post(&url).json(&heartbeat)).await {
                Ok(Verdict::Accepted) => {}
                Ok(Verdict::Unknown(status)) => {
                    tracing::warn!(%status, "the coordinator does not know this edge any more, registering again");
                    return;
                }
                Err(error) => tracing::warn!(%error, "a heartbeat was not heard"),
            }
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Verdict, CoordinatorError> {
        let status = request.bearer_auth(&self.key).send().await?.status();
        match status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(Verdict::Unknown(status)),
            _ if status.is_success() => Ok(Verdict::Accepted),
            _ => Err(CoordinatorError::Refused(status)),
        }
    }
}

fn as_count(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or(0)
}
