//! The worker API: what coordinators, probes and operators ask an edge.
//!
//! Invariant: `/v2/sync` is answered to the holder of the worker key only, `/metrics` and `/status` to allowed
//! addresses only, and nothing here changes anything.

mod key;
mod query;

use std::sync::Arc;

use entities::host::is_ip_or_localhost;
use entities::ids::WorkerId;
use entities::range::AddressRange;
use entities::worker::SyncReport;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::client::Client;
use crate::config::Config;
use crate::freshness::Freshness;
use crate::keys::WorkerKeys;
use crate::memory::Memory;
use crate::metrics::{Gauge, Metrics, as_gauge, metrics};
use crate::position::Position;
use crate::reply::{Problem, Reply};
use crate::request_id::RequestId;
use crate::snapshot::Journal;
use crate::words::Words as _;
use query::SyncQuery;

/// Answers for one edge.
pub(crate) struct Api {
    worker_id: WorkerId,
    boot_id: entities::ids::BootId,
    authority: String,
    names: Vec<String>,
    allowed: Vec<AddressRange>,
    keys: Arc<WorkerKeys>,
    requires_tls: bool,
    position: watch::Receiver<Position>,
    journal: Option<Arc<Journal>>,
    freshness: Arc<Freshness>,
    is_leaving: watch::Receiver<bool>,
    is_id_in_use: watch::Receiver<bool>,
    memory: Arc<Memory>,
    metrics: Metrics,
    own: Arc<ApiMetrics>,
    gauges: StatusGauges,
}

metrics! {
    /// What is only known when somebody asks.
    pub(crate) struct ApiMetrics {
        confirmed_age: Gauge = ("registry_confirmed_age_seconds", "How long ago a trusted registry was last followed"),
    }
}

/// What `/status` shows of what others count.
#[derive(Clone)]
pub(crate) struct StatusGauges {
    /// Circuits in the table.
    pub(crate) circuits: Gauge,
    /// Dynamic ports that listen.
    pub(crate) ports_open: Gauge,
    /// Client connections.
    pub(crate) connections_open: Gauge,
    /// Memory that the process takes.
    pub(crate) resident_bytes: Gauge,
    /// Size of the snapshot.
    pub(crate) snapshot_bytes: Gauge,
}

/// What the edge tells its API as it goes.
pub(crate) struct Signals {
    /// How far it is in applying the registry.
    pub(crate) position: watch::Receiver<Position>,
    /// Whether it has been told to stop.
    pub(crate) is_leaving: watch::Receiver<bool>,
    /// Whether another process has its id.
    pub(crate) is_id_in_use: watch::Receiver<bool>,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Is the process alive?
    Live,
    /// Does it serve?
    Ready,
    /// Prometheus text.
    Metrics,
    /// For people.
    Status,
    /// How far it is in applying the registry.
    Sync,
}

/// A request, as far as the API looks at it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// What is asked.
    pub(crate) endpoint: Endpoint,
    /// What the request is called.
    pub(crate) id: &'a RequestId,
    /// How.
    pub(crate) method: &'a Method,
    /// The query, without its question mark.
    pub(crate) query: &'a str,
    /// Who asks.
    pub(crate) client: &'a Client,
    /// The fields that may carry the worker key.
    pub(crate) authorization: Option<&'a [u8]>,
    /// As above.
    pub(crate) token: Option<&'a [u8]>,
}

// === impl Endpoint ===

impl Endpoint {
    /// What a path names.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/health" | "/health/readyz" => Some(Self::Ready),
            "/health/livez" => Some(Self::Live),
            "/metrics" => Some(Self::Metrics),
            "/status" => Some(Self::Status),
            "/v2/sync" => Some(Self::Sync),
            _ => None,
        }
    }
}

// === impl Api ===

impl Api {
    /// Answers for the edge that `config` describes.
    pub(crate) fn new(
        config: &Config,
        keys: Arc<WorkerKeys>,
        signals: Signals,
        journal: Option<Arc<Journal>>,
        freshness: Arc<Freshness>,
        memory: Arc<Memory>,
        counting: (Metrics, Arc<ApiMetrics>, StatusGauges),
    ) -> Self {
        let (metrics, own, gauges) = counting;
        let Signals { position, is_leaving, is_id_in_use } = signals;
        Self {
            worker_id: config.worker_id.clone(),
            boot_id: config.boot_id,
            authority: config.authority.name.to_string(),
            names: config.api_names.iter().map(ToString::to_string).collect(),
            allowed: config.api_allowed.clone(),
            keys,
            requires_tls: config.requires_tls,
            position,
            journal,
            freshness,
            is_leaving,
            is_id_in_use,
            memory,
            metrics,
            own,
            gauges,
        }
    }

    /// Whether `host`, in normal form, reaches the worker API.
    pub(crate) fn is_at(&self, host: &str) -> bool {
        is_ip_or_localhost(host) || self.names.iter().any(|name| name == host)
    }

    /// The answer; only `/v2/sync` takes its time.
    pub(crate) async fn answer(&self, question: Question<'_>) -> Reply {
        if !matches!(*question.method, Method::GET | Method::HEAD) {
            return Problem::MethodNotAllowed.reply(false, question.id);
        }
        match question.endpoint {
            Endpoint::Live => Reply::json(StatusCode::OK, &json!({"status": "alive"})),
            Endpoint::Ready => self.ready(),
            Endpoint::Metrics | Endpoint::Status if !self.is_allowed(question.client) => {
                Problem::AddressNotAllowed.reply(false, question.id)
            }
            Endpoint::Metrics => self.metrics(question.id),
            Endpoint::Status => self.status(),
            // No listener of an edge ends TLS yet, so the question came in the open whoever asks.
            Endpoint::Sync if self.requires_tls => Problem::TlsRequired.reply(false, question.id),
            Endpoint::Sync if !key::is_in(&self.keys, question.authorization, question.token) => {
                Problem::Unauthorized.reply(false, question.id)
            }
            Endpoint::Sync => match SyncQuery::parse(question.query) {
                Ok(query) => self.sync(query).await,
                Err(()) => Problem::InvalidQuery.reply(false, question.id),
            },
        }
    }

    /// Somebody of whom nothing is known but the proxy in front may not do what that proxy may.
    fn is_allowed(&self, client: &Client) -> bool {
        !client.is_hidden && AddressRange::any_contains(&self.allowed, client.ip)
    }

    fn ready(&self) -> Reply {
        let is_leaving = *self.is_leaving.borrow();
        let position = self.position.borrow().clone();
        let (status, word) = match (position.is_ready, is_leaving) {
            (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "leaving"),
            (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
            // Traffic that comes is served, but it should go to the process that was here before.
            (true, false) if *self.is_id_in_use.borrow() => (StatusCode::SERVICE_UNAVAILABLE, "id_in_use"),
            // It lives, but new connections are better off elsewhere.
            (true, false) if self.memory.is_shedding() => (StatusCode::SERVICE_UNAVAILABLE, "shedding"),
            (true, false) => (StatusCode::OK, "ready"),
        };
        let answer = match stale(&position) {
            Some(stale) => json!({"status": word, "stale": stale}),
            None => json!({"status": word}),
        };
        Reply::json(status, &answer)
    }

    fn metrics(&self, id: &RequestId) -> Reply {
        let age_s = self.freshness.age().as_secs();
        self.own.confirmed_age.set(as_gauge(age_s));
        match self.metrics.text() {
            Ok(text) => Reply {
                status: StatusCode::OK,
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                body: text.into(),
                fields: Vec::new(),
                must_close: false,
            },
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                Problem::Internal.reply(false, id)
            }
        }
    }

    fn status(&self) -> Reply {
        let position = self.position.borrow().clone();
        let status = json!({
            "worker_id": self.worker_id,
            "boot_id": self.boot_id,
            "version": env!("CARGO_PKG_VERSION"),
            "authority": self.authority,
            "ready": position.is_ready,
            "leaving": *self.is_leaving.borrow(),
            "epoch": position.epoch,
            "applied": position.applied,
            "circuits": self.gauges.circuits.get(),
            "ports_open": self.gauges.ports_open.get(),
            "connections_open": self.gauges.connections_open.get(),
            "memory": {
                "resident_bytes": self.gauges.resident_bytes.get(),
                "ceiling_bytes": self.memory.ceiling_bytes(),
                "shedding": self.memory.is_shedding(),
            },
            "refused": &position.refused[..],
            "stale": stale(&position),
            "confirmed_age_s": self.freshness.age().as_secs(),
            "snapshot": self.journal.as_ref().map(|journal| {
                json!({"age_s": journal.age_s(), "bytes": self.gauges.snapshot_bytes.get()})
            }),
        });
        Reply::json(StatusCode::OK, &status)
    }

    /// Waits until what was asked for is applied, the time is over or the edge leaves, then says how far it is.
    async fn sync(&self, query: SyncQuery) -> Reply {
        if let Some((epoch, revision)) = query.awaited {
            let mut position = self.position.clone();
            let mut is_leaving = self.is_leaving.clone();
            let applied = position.wait_for(|position| position.has_applied(epoch, revision));
            tokio::select! {
                _ = applied => {}
                _ = is_leaving.wait_for(|is_leaving| *is_leaving) => {}
                () = tokio::time::sleep(query.timeout) => {}
            }
        }
        let position = self.position.borrow().clone();
        let report = SyncReport {
            worker_id: self.worker_id.clone(),
            boot_id: self.boot_id,
            epoch: position.epoch,
            applied: position.applied,
            refused: position.refused.to_vec(),
        };
        Reply::json(StatusCode::OK, &json!(report))
    }
}

/// Why and since when what is served is not confirmed.
fn stale(position: &Position) -> Option<Value> {
    let stale = position.stale?;
    let (reason, since_s) = (stale.reason.as_str(), stale.since.elapsed().as_secs());
    Some(json!({"reason": reason, "since_s": since_s, "held_back": position.held_back}))
}
