//! Tells the coordinator that the edge is there, that it still is, and that it leaves.
//!
//! Invariant: nothing here holds up traffic: an edge whose coordinator is away serves what it knows and keeps trying.

use std::sync::Arc;
use std::time::Duration;

use entities::limits::MAX_TARGET_REPORTS;
use entities::worker::{Heartbeat, Registration};
use reqwest::{RequestBuilder, StatusCode};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::health::{Health, Reports};
use crate::keys::WorkerKeys;
use crate::metrics::Gauge;

/// How long the coordinator may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long leaving may hold up the end of the process.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The first wait after an error, and the longest one.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long news about targets wait for more of them: a node that dies takes many targets along.
const NEWS_GATHER_TIME: Duration = Duration::from_millis(50);

/// The time between two heartbeats with news, at least.
const NEWS_PAUSE: Duration = Duration::from_millis(50);

/// The edge's side of the workers API.
#[derive(Clone)]
pub(crate) struct Registrar {
    http: reqwest::Client,
    worker_url: String,
    keys: Arc<WorkerKeys>,
    registration: Registration,
    heartbeat_interval: Duration,
    is_id_in_use: Arc<watch::Sender<bool>>,
    load: Load,
}

/// What the coordinator hears of the edge's load.
#[derive(Clone)]
pub(crate) struct Load {
    /// Circuits in the table.
    pub(crate) circuits: Gauge,
    /// Client connections.
    pub(crate) connections: Gauge,
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
        keys: Arc<WorkerKeys>,
        is_id_in_use: watch::Sender<bool>,
        load: Load,
    ) -> Result<Self, reqwest::Error> {
        // The coordinator is a neighbour: what the environment says about proxies is meant for elsewhere.
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build()?;
        let coordinator = config.coordinator_url.trim_end_matches('/');
        Ok(Self {
            http,
            worker_url: format!("{coordinator}/v2/workers/{}", config.worker_id),
            keys,
            registration: Registration {
                boot_id: config.boot_id,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                api_url: config.api_url.clone(),
                authority: config.authority.clone(),
                weight: config.weight,
            },
            heartbeat_interval: config.heartbeat_interval,
            is_id_in_use: Arc::new(is_id_in_use),
            load,
        })
    }

    /// Registers and sends heartbeats for ever.
    pub(crate) async fn run(self, health: Health) {
        loop {
            self.register().await;
            // Whoever has taken the edge up knows nothing of its targets.
            health.report_all();
            self.send_heartbeats(health.reports()).await;
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

    /// Until the coordinator does not know the edge any more. News about targets do not wait for the next heartbeat, but for
    /// each other.
    async fn send_heartbeats(&self, reports: &Reports) {
        let url = format!("{}/heartbeat", self.worker_url);
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut pause = NEWS_PAUSE;
        loop {
            let news = async {
                tokio::time::sleep(pause).await;
                reports.arrived().await;
                tokio::time::sleep(NEWS_GATHER_TIME).await;
            };
            // The time over is the time for a heartbeat.
            let _ = tokio::time::timeout(self.heartbeat_interval, news).await;
            let targets = reports.take(MAX_TARGET_REPORTS);
            let heartbeat = Heartbeat {
                boot_id: self.registration.boot_id,
                circuits: as_count(self.load.circuits.get()),
                connections: as_count(self.load.connections.get()),
                targets,
            };
            match self.send(self.http.post(&url).json(&heartbeat)).await {
                Ok(Verdict::Accepted) => {
                    backoff.reset();
                    pause = NEWS_PAUSE;
                }
                Ok(Verdict::Unknown(status)) => {
                    tracing::warn!(%status, "the coordinator does not know this edge any more, registering again");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "a heartbeat was not heard");
                    reports.give_back(heartbeat.targets);
                    pause = backoff.next();
                }
            }
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Verdict, CoordinatorError> {
        let status = request.bearer_auth(self.keys.own()).send().await?.status();
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
