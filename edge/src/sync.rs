//! Follows the registry: `list → diff → watch from the revision after → on any end, list again`.
//!
//! Invariant: `applied` advances only after the table and the sockets are as the registry says; a list that is not
//! trusted changes nothing.

mod apply;
mod batches;
mod drains;
mod metrics;
mod ports;
mod progress;
mod read;
mod standing;
mod start;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use entities::ids::{CircuitKey, Revision};
use entities::limits::MAX_REFUSALS;
use entities::registry::layout::{Layout, Meta};
use entities::registry::{Batch, Event, Listing, Registry, RegistryError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::freshness::Freshness;
use crate::position::Followed;
use crate::table::ledger::Observation;
pub(crate) use apply::Applier;
use apply::KeyListing;
use batches::{MAX_BATCH_EVENTS, last_of_each_key, next_batch};
pub(crate) use metrics::SyncMetrics;
pub(crate) use ports::{OpenPort, Ports};
pub(crate) use progress::Progress;
use read::{Reader, Reading};
pub(crate) use standing::Standing;

/// The first wait after an error, and the longest one.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The same between watches that end at once while the registry lists: it is there, so changes must not wait long.
const WATCH_BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A watch that lived this long was one, even if nothing happened meanwhile.
const MIN_WATCH_LIFE: Duration = Duration::from_secs(1);

/// Follows one registry for one edge.
pub(crate) struct Follower<P> {
    registry: Arc<dyn Registry>,
    layout: Layout,
    reader: Reader,
    applier: Applier<P>,
    standing: Standing,
    freshness: Arc<Freshness>,
    metrics: Arc<SyncMetrics>,
    relist_held_back: Duration,
    /// Whether there is a snapshot that has been neither served nor overtaken by a list.
    has_snapshot: bool,
}

/// Why following ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The list at this revision is not trusted.
    Distrusted(Revision),
    /// `meta` says that the registry is another one now.
    Replaced,
    /// It is time to ask again for what the registry does not name.
    HeldBack,
    /// The watch ended after it had brought something, or had lived for a while.
    Watch,
    /// The watch ended at once and brought nothing.
    BarrenWatch,
}

// === impl Follower ===

impl<P: Ports> Follower<P> {
    /// Will write what `registry` says through `applier`, for the edge that `config` describes.
    pub(crate) fn new(
        config: &Config,
        registry: Arc<dyn Registry>,
        layout: Layout,
        applier: Applier<P>,
        standing: Standing,
        freshness: Arc<Freshness>,
        metrics: Arc<SyncMetrics>,
    ) -> Self {
        let reader = Reader::new(layout.clone(), config.authority.name.clone(), Arc::clone(&metrics));
        let relist_held_back = config.held_back_relist_interval;
        let has_snapshot = false;
        Self { registry, layout, reader, applier, standing, freshness, metrics, relist_held_back, has_snapshot }
    }

    /// Follows until `stop`, and hands the ports back that are open then.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> P {
        let freshness = Arc::clone(&self.freshness);
        tokio::select! {
            () = self.follow_for_ever() => {}
            () = freshness.watch_limits() => {}
            // An error means that the edge is gone, which is a reason to stop as well.
            _ = stop.wait_for(|must_stop| *must_stop) => {}
        }
        self.applier.into_ports()
    }

    async fn follow_for_ever(&mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut watch_backoff = Backoff::new(WATCH_BACKOFF.0, WATCH_BACKOFF.1);
        let mut has_been_barren = false;
        loop {
            let followed = self.follow().await;
            self.standing.lose();
            match followed {
                Ok(Ended::Distrusted(revision)) => self.wait_for_meta(revision, backoff.next()).await,
                // One end is a lost connection, a second in a row is a registry that takes no watch.
                Ok(Ended::BarrenWatch) if has_been_barren => tokio::time::sleep(watch_backoff.next()).await,
                Ok(ended) => {
                    tracing::debug!(?ended, "listing the registry again");
                    has_been_barren = ended == Ended::BarrenWatch;
                    backoff.reset();
                    watch_backoff.reset();
                }
                Err(error) => {
                    self.standing.unreachable(self.applier.held_back());
                    let wait = backoff.next();
                    tracing::warn!(%error, ?wait, "the registry does not answer, what is served stays");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One round: a list, and then changes for as long as the watch lives.
    async fn follow(&mut self) -> Result<Ended, RegistryError> {
        let listing = self.list().await?;
        self.metrics.relists.inc();
        let revision = listing.revision;
        let Some(meta) = self.apply_listing(listing).await else {
            return Ok(Ended::Distrusted(revision));
        };
        let mut watch = self.registry.watch(&self.layout.root(), revision.next()).await?;
        self.standing.follow(self.applier.held_back());
        let began = Instant::now();
        let mut is_barren = true;
        loop {
            let must_ask_again = self.applier.held_back() > 0;
            let batch = tokio::select! {
                batch = next_batch(&mut watch) => batch,
                () = tokio::time::sleep_until(began + self.relist_held_back), if must_ask_again => {
                    return Ok(Ended::HeldBack);
                }
            };
            let Some(batch) = batch else { break };
            is_barren = false;
            if !self.apply_batch(batch, meta).await {
                return Ok(Ended::Replaced);
            }
            self.standing.follow(self.applier.held_back());
        }
        let is_barren = is_barren && began.elapsed() < MIN_WATCH_LIFE;
        Ok(if is_barren { Ended::BarrenWatch } else { Ended::Watch })
    }

    /// Makes the table what the list says; `None` and no change if the list is not trusted.
    async fn apply_listing(&mut self, listing: Listing) -> Option<Meta> {
        let mut meta = None;
        let mut observations = Vec::new();
        let mut keys = KeyListing::default();
        for (index, entry) in listing.entries.iter().enumerate() {
            match self.reader.read(&entry.key, Some(&entry.value)) {
                Reading::Circuit(key, observation) => self.note(key, observation, &mut observations),
                Reading::Meta(found) => meta = found,
                Reading::Key(_, key) => keys.found.extend(key),
                Reading::UnreadableKey(id) => keys.unreadable.push(id),
                Reading::Other => {}
            }
            if index % MAX_BATCH_EVENTS == MAX_BATCH_EVENTS - 1 {
                tokio::task::yield_now().await;
            }
        }
        let epoch = meta.map(|meta| meta.epoch);
        let meta = match trust::judge(self.standing.followed(), meta, listing.revision) {
            Ok(meta) => meta,
            Err(distrust) => {
                self.standing.distrust(distrust, epoch, self.applier.held_back());
                self.serve_snapshot().await;
                return None;
            }
        };
        let circuits = observations.len();
        self.has_snapshot = false;
        self.applier.apply_keys(keys);
        self.applier.apply_listing(observations).await;
        self.advance(meta, listing.revision);
        tracing::info!(circuits, revision = %listing.revision, epoch = %meta.epoch, "registry listed");
        Some(meta)
    }

    /// Applies changes; `false` if `meta` is not what it was, so that only a list can tell what holds.
    async fn apply_batch(&mut self, batch: Batch, current: Meta) -> bool {
        let changes = batch.events.len();
        let mut observations: Vec<(CircuitKey, Observation)> = Vec::with_capacity(changes);
        for event in last_of_each_key(batch.events) {
            let reading = match &event {
                Event::Put(entry) => self.reader.read(&entry.key, Some(&entry.value)),
                Event::Deleted { key, .. } => self.reader.read(key, None),
            };
            match reading {
                Reading::Circuit(key, observation) => self.note(key, observation, &mut observations),
                Reading::Meta(meta) if meta != Some(current) => return false,
                Reading::Key(id, key) => self.applier.change_key(&id, key),
                Reading::Meta(_) | Reading::UnreadableKey(_) | Reading::Other => {}
            }
        }
        self.applier.apply_changes(observations).await;
        self.metrics.events_applied.inc_by(changes as u64);
        self.advance(current, batch.revision);
        true
    }

    /// Keeps what means something here: of a registry with many authorities most does not.
    fn note(&self, key: CircuitKey, observation: Observation, observations: &mut Vec<(CircuitKey, Observation)>) {
        if matches!(observation, Observation::Open(_)) || self.applier.knows(&key) {
            observations.push((key, observation));
        }
    }

    fn advance(&mut self, meta: Meta, revision: Revision) {
        let followed = Followed { installation_id: meta.installation_id, epoch: meta.epoch, revision };
        self.standing.advance(followed, self.applier.refusals(MAX_REFUSALS));
    }

    /// Until `meta` changes after `revision`, at most `wait`.
    async fn wait_for_meta(&self, revision: Revision, wait: Duration) {
        let meta = self.layout.meta();
        let changed = async {
            let mut watch = self.registry.watch(&meta, revision.next()).await?;
            while let Some(batch) = watch.next().await {
                if batch.events.iter().any(|event| event.key() == meta) {
                    return Ok(());
                }
            }
            // A watch that ended says nothing about `meta`.
            std::future::pending::<Result<(), RegistryError>>().await
        };
        if let Ok(Err(error)) = tokio::time::timeout(wait, changed).await {
            tracing::debug!(%error, "the registry's meta cannot be watched");
            tokio::time::sleep(wait).await;
        }
    }
}
