//! The life of one edge: start, serve, leave.
//!
//! Invariant: when [`run()`] returns, nothing listens, no connection is open and no task of the edge runs.

mod counters;

use std::sync::Arc;

use entities::registry::Registry;
use entities::registry::layout::Layout;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::access::{Authorizer, PublicKeys};
use crate::api::{Api, Signals};
use crate::balance::TargetContext;
use crate::client::Peers;
use crate::config::{Config, Http1Engine, Listeners};
use crate::decide::Decider;
use crate::egress::{Egress, OwnPorts};
use crate::exchange::Pool;
use crate::freshness::Freshness;
use crate::health::Health;
use crate::keys::WorkerKeys;
use crate::listen::{DynamicPorts, Listening, TrafficPort};
use crate::memory::Memory;
use crate::presence::Presence;
use crate::record::{Log, Records, Totals};
use crate::registration::Registrar;
use crate::serve::Server;
use crate::shared::Shared;
use crate::snapshot::{Remembered, Snapshot, SnapshotError, SnapshotMetrics};
use crate::sync::{Applier, Follower, Progress, Standing};
use crate::table::Table;
use counters::Counters;

/// Why an edge cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The traffic port cannot be used.
    #[error("the traffic port cannot be used: {0}")]
    Listener(#[from] std::io::Error),
    /// The metrics cannot be set up.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The client of the coordinator cannot be set up.
    #[error("the client of the coordinator cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// The task that follows the registry failed, which is a defect.
    #[error("following the registry failed: {0}")]
    Sync(#[from] JoinError),
}

/// Serves what `registry` says on `listeners` until `shutdown` is true, then leaves in order: unready, announce, stop
/// accepting, let requests in flight finish, tell the coordinator.
///
/// # Errors
/// [`RunError`] if the edge cannot start, or if a part of it fails that it cannot do without.
pub async fn run(
    config: Config,
    registry: Arc<dyn Registry>,
    layout: Layout,
    listeners: Listeners,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let counters = Counters::register()?;
    let (in_use, is_id_in_use) = watch::channel(false);
    let worker_keys = WorkerKeys::new(&config);
    let registrar = Registrar::new(&config, Arc::clone(&worker_keys), in_use, counters.load())?;
    let (snapshot, remembered) = open_snapshot(&config, &counters.snapshot).await?.unzip();
    let journal = snapshot.as_ref().map(Snapshot::journal);
    let table = Arc::new(Table::new());
    let own_ports = Arc::new(OwnPorts::default());
    let egress = Arc::new(Egress::new(&config, &listeners, Arc::clone(&own_ports)).await);
    let health = Health::new(Arc::clone(&egress), Arc::clone(&counters.health));
    let targets = Arc::new(TargetContext {
        health: health.clone(),
        egress,
        fails_open: config.targets.fails_open,
        metrics: Arc::clone(&counters.targets),
    });
    let (progress, position) = Progress::new();
    let freshness = Arc::new(Freshness::new(config.max_staleness()));
    let (leaving, is_leaving) = watch::channel(false);
    let (stop, must_stop) = watch::channel(false);

    let memory = Arc::new(Memory::new(config.memory.clone(), Arc::clone(&counters.memory)));
    let signals = Signals { position, is_leaving, is_id_in_use };
    let (fresh, near) = (Arc::clone(&freshness), Arc::clone(&memory));
    let api = Api::new(&config, Arc::clone(&worker_keys), signals, journal.clone(), fresh, near, counters.of_api());
    let totals = Totals(Arc::clone(&counters.records));
    let shared = Arc::new(Shared {
        table: Arc::clone(&table),
        freshness: Arc::clone(&freshness),
        peers: peers(&config),
        memory: Arc::clone(&memory),
        records: Records::new(vec![Box::new(totals), Box::new(Log::default())]),
        limits: config.client,
        relays: Arc::clone(&counters.relays),
        tunnels: Arc::clone(&counters.tunnels),
    });
    let keys = Arc::new(PublicKeys::default());
    let authorizer = Authorizer::new(Arc::clone(&keys), config.cookie_keys.clone(), Arc::clone(&config.clock));
    let decider = Arc::new(Decider { shared, api, authorizer });
    let pool = (config.http1 == Http1Engine::Exchange).then(Arc::<Pool>::default);
    let listening = Listening {
        traffic: listeners.traffic,
        port_address: config.port_address,
        own_ports,
        uncounted_clients: config.uncounted_clients.clone(),
        secure: config.secure.clone(),
        metrics: Arc::clone(&counters.connections),
    };
    let (traffic, ports) = TrafficPort::open(listening, Arc::new(Server::new(decider, pool.clone())))?;

    let applying = Arc::clone(&counters.sync);
    let applier = Applier::new(&config, table, ports, keys, targets, journal.clone(), applying);
    let presence = Presence::new(&config, Arc::clone(&registry), &layout);
    let standing = Standing::new(progress, Arc::clone(&freshness), journal, Arc::clone(&counters.sync));
    let mut follower = Follower::new(&config, registry, layout, applier, standing, freshness, counters.sync);
    if let Some(remembered) = remembered {
        follower.remember(remembered);
    }
    // Sets end their tasks when they are dropped, so that an edge that is cancelled leaves none behind.
    let mut following: JoinSet<DynamicPorts> = JoinSet::new();
    following.spawn(follower.run(must_stop));
    let mut registering = JoinSet::new();
    registering.spawn(registrar.clone().run(health.clone()));
    registering.spawn(health.run());
    registering.spawn(worker_keys.follow(config.key_file.clone(), config.accepted_keys_file.clone()));
    registering.spawn(memory.watch());
    if let Some(pool) = pool {
        registering.spawn(async move { pool.sweep().await });
    }
    if config.has_worker_key_in_registry {
        registering.spawn(presence.clone().run());
    }
    tracing::info!(worker = %config.worker_id, authority = %config.authority.name, "edge started");

    let early = tokio::select! {
        ended = following.join_next() => ended,
        // An error means that nobody is left who could say it, which is a reason to stop as well.
        _ = shutdown.wait_for(|must_stop| *must_stop) => None,
    };

    leaving.send_replace(true);
    tracing::info!(announce_time = ?config.announce_time, "edge leaves");
    tokio::time::sleep(config.announce_time).await;
    stop.send_replace(true);
    let followed = match early {
        Some(ended) => Some(ended),
        None => following.join_next().await,
    };
    let failed = match followed {
        Some(Ok(ports)) => {
            ports.close().await;
            None
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    traffic.close(config.shutdown_drain).await;
    registering.shutdown().await;
    tokio::join!(registrar.leave(), presence.leave());
    if let Some(snapshot) = snapshot {
        snapshot.close().await;
    }
    tracing::info!("edge stopped");
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn peers(config: &Config) -> Peers {
    Peers::new(config.trusted_proxies.clone(), config.proxy_protocol_from.clone(), config.client.head)
}

/// Reads the snapshot, if there is a folder for one.
async fn open_snapshot(
    config: &Config,
    metrics: &Arc<SnapshotMetrics>,
) -> Result<Option<(Snapshot, Remembered)>, RunError> {
    let Some(folder) = config.data_dir.clone() else { return Ok(None) };
    let (clock, metrics) = (Arc::clone(&config.clock), Arc::clone(metrics));
    let opened = tokio::task::spawn_blocking(move || Snapshot::open(&folder, clock, metrics)).await?;
    Ok(Some(opened?))
}
