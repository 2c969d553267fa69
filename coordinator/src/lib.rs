//! The control plane of the App Proxy.
//!
//! # Layout
//!
//! | module | what it does |
//! |---|---|
//! | `serve` | the API's socket: connections and their limits |
//! | `api` | warp filters, one file a resource: extract → use case → reply; `api/front` goes around each call |
//! | `refusals`, [`addresses`] | what the API turns away; who the client behind proxies is |
//! | [`circuits`] | use cases of circuits: open, change, close; waits for edges |
//! | [`workers`] | use cases of workers: register, heartbeat, leave, lose |
//! | [`acks`] | how far each worker is |
//! | [`placement`] | pure: which authority gets a circuit |
//! | [`slots`] | pure: which port or name, and what rests |
//! | [`store`] | SeaORM; the only place with queries |
//! | [`publish`] | store → registry |
//! | [`reconcile`] | level-triggered repair |
//! | [`signing`] | the keys behind tickets and bearer tokens |
//! | [`keys`], [`config`], [`metrics`] | API keys, time spans, what is counted |
//! | [`cli`], [`settings`] | the command line of `appproxy-coordinator`, and its configuration file |
//!
//! # Invariants
//!
//! * Arrows go `api → circuits, workers → store, publish, placement, slots`: handlers never touch the registry, use
//!   cases never see warp, nothing here knows the crate `edge`.
//! * The store is the truth. The registry is written after the commit and never holds what the store never had.
//! * Time comes from a [`entities::clock::Clock`]; sockets and the shutdown signal come from the caller.

pub mod acks;
pub mod addresses;
mod api;
pub mod circuits;
pub mod cli;
pub mod config;
pub mod keys;
pub mod metrics;
pub mod placement;
pub mod publish;
pub mod reconcile;
mod refusals;
mod serve;
pub mod settings;
pub mod signing;
pub mod slots;
pub mod store;
pub mod targets;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use entities::clock::SharedClock;
use entities::registry::Registry;
use entities::registry::layout::Layout;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use acks::Acks;
use api::{Api, Front};
use circuits::Circuits;
use config::Config;
use keys::ApiKeys;
use metrics::Metrics;
use publish::Publisher;
use reconcile::Reconcile;
use store::{DatabaseConfig, Store, StoreError};
use workers::{WorkerError, Workers};

pub use api::openapi_document;

/// How long a coordinator that starts waits before it asks again for a database that is away.
const DATABASE_RETRY: Duration = Duration::from_secs(1);

/// Why a coordinator could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database cannot be opened.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] StoreError),
    /// The known workers cannot be followed.
    #[error("the known workers cannot be followed: {0}")]
    Workers(#[from] WorkerError),
    /// The client that asks workers cannot be built.
    #[error("the HTTP client cannot be built: {0}")]
    Client(#[from] reqwest::Error),
    /// A metric's name is wrong.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The API's socket cannot be used.
    #[error("the API's socket cannot be used: {0}")]
    Socket(#[from] std::io::Error),
}

/// The sockets of a coordinator.
#[derive(Debug)]
pub struct Listeners {
    /// Where the API answers.
    pub api: std::net::TcpListener,
}

/// Runs until `shutdown` becomes true.
pub async fn run(
    config: Config,
    registry: Arc<dyn Registry>,
    layout: Layout,
    clock: SharedClock,
    listeners: Listeners,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let Some(store) = open_store(&config.database, shutdown.clone()).await? else { return Ok(()) };
    let installation_id = store.installation(clock.now_ms()).await?;
    let keys = Arc::new(ApiKeys::new(config.keys));
    let signing = Arc::new(config.signing_keys);
    let metrics = Metrics::new()?;
    let timing = config.timing;
    let acks = Acks::new();
    let publisher = Publisher::new(registry, layout, timing.publish_timeout);
    let nudge = Arc::new(Notify::new());
    let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(2)).no_proxy().build()?;
    let circuits = Circuits::new(
        store.clone(),
        publisher.clone(),
        acks.clone(),
        Arc::clone(&clock),
        timing,
        metrics.clone(),
        Arc::clone(&signing),
        Arc::clone(&nudge),
    );
    let workers = Workers::new(
        store.clone(),
        acks.clone(),
        Arc::clone(&keys),
        client,
        Arc::clone(&clock),
        metrics.clone(),
        timing.worker_lost_after,
        config.api.require_tls,
        Arc::clone(&nudge),
    );
    let reconcile = Reconcile::new(
        store.clone(),
        publisher,
        acks,
        Arc::clone(&clock),
        timing,
        metrics.clone(),
        installation_id,
        signing.public(),
        nudge,
    );
    workers.follow_known().await?;

    let mut background = JoinSet::new();
    background.spawn(reconcile.clone().run());
    background.spawn(workers.clone().run());
    if let Some(path) = config.api.keys_file.clone() {
        background.spawn(keys::follow::run(path, Arc::clone(&keys), metrics.clone()));
    }
    listeners.api.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listeners.api)?;
    let api =
        Api { keys, circuits, workers, reconcile, store, clock, timing, config: config.api, metrics, installation_id };
    serve::serve(listener, Front::new(Arc::new(api)), shutdown).await;
    Ok(())
}

/// Opens the store; waits for a database that is away. `None` if `shutdown` came first.
async fn open_store(config: &DatabaseConfig, mut shutdown: watch::Receiver<bool>) -> Result<Option<Store>, StoreError> {
    loop {
        let error = match Store::open(config).await {
            Ok(store) => return Ok(Some(store)),
            Err(error @ StoreError::Database(_)) if config.is_remote() => error,
            Err(error) => return Err(error),
        };
        tracing::warn!(%error, "the database is not there yet; trying again");
        // A signal that nobody can give any more counts as given.
        if tokio::time::timeout(DATABASE_RETRY, shutdown.wait_for(|is_down| *is_down)).await.is_ok() {
            return Ok(None);
        }
    }
}
