//! Level-triggered repair: makes the registry equal to the store, whatever was missed.
//!
//! Invariant: the registry is listed before the store is read. A key that is in the list but in neither circuits nor
//! tombstones is then nobody's. No round deletes more than a tenth of the keys, or a hundred, unless the registry
//! went back: what it holds then says nothing against the store. Circuits are published several at a time, and all of
//! them before the registry is declared complete.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entities::circuit::{CircuitStatus, Versioned};
use entities::clock::SharedClock;
use entities::ids::{CircuitId, CircuitKey, Generation, InstallationId, Revision};
use entities::orm::to_column;
use entities::registry::layout::{CircuitState, Place};
use entities::registry::{Entry, RegistryError, Swap};
use entities::token::PublicKey;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Notify;

use crate::acks::{Acks, Wanted};
use crate::config::Timing;
use crate::metrics::Metrics;
use crate::publish::{PublishError, Publisher, RegistryPosition, Stand};
use crate::slots::RestRules;
use crate::store::{ListFilter, Store, StoreError, StoredCircuit, Tombstone, UnconfirmedPort};

/// Rows read at a time.
const PAGE: u64 = 500;

/// Circuits that are published at a time: an empty registry is filled in seconds, and half of the usual connections to the
/// database are left for the API.
const PUBLISH_CONCURRENCY: usize = 8;

/// After a round that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Keys that one round may delete of `known` ones: more than that is a mistake until a person says otherwise.
fn deletable(known: usize) -> usize {
    (known / 10).max(100)
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A key could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Compares and repairs.
#[derive(Clone)]
pub struct Reconcile {
    store: Store,
    publisher: Publisher,
    acks: Acks,
    clock: SharedClock,
    timing: Timing,
    metrics: Metrics,
    installation_id: InstallationId,
    /// What edges accept.
    public_keys: Vec<PublicKey>,
    nudge: Arc<Notify>,
    is_complete: Arc<AtomicBool>,
}

/// What the registry has of a key.
struct Known {
    entry: Entry,
    generation: Option<Generation>,
}

/// An open circuit that the registry has.
struct Repaired {
    key: CircuitKey,
    revision: Revision,
    /// How it is if a worker serves it.
    served_status: CircuitStatus,
}

// === impl Reconcile ===

impl Reconcile {
    /// A repairer; `nudge` makes it look at once.
    #[expect(clippy::too_many_arguments, reason = "each part is another thing; a struct would only repeat them")]
    pub fn new(
        store: Store,
        publisher: Publisher,
        acks: Acks,
        clock: SharedClock,
        timing: Timing,
        metrics: Metrics,
        installation_id: InstallationId,
        public_keys: Vec<PublicKey>,
        nudge: Arc<Notify>,
    ) -> Self {
        let is_complete = Arc::new(AtomicBool::new(false));
        Self { store, publisher, acks, clock, timing, metrics, installation_id, public_keys, nudge, is_complete }
    }

    /// Whether a first round has filled the registry.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Runs a round at once, then at every interval or nudge, for ever.
    pub async fn run(self) {
        let mut last_error = String::new();
        loop {
            match self.round().await {
                Ok(()) => {
                    last_error.clear();
                    let _ = tokio::time::timeout(self.timing.reconcile_interval, self.nudge.notified()).await;
                }
                Err(error) => {
                    let text = error.to_string();
                    // What goes on for an hour is said once.
                    if text == last_error {
                        tracing::debug!(%error, "reconcile still cannot finish a round");
                    } else {
                        tracing::warn!(%error, "reconcile could not finish a round; trying again");
                    }
                    last_error = text;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// Takes the registry for ours; a new life of it is nobody's yet.
    async fn take_stand(&self) -> Result<Stand, ReconcileError> {
        let stored = self.store.registry_position().await?;
        let known = stored.map(|stored| {
            let told = self.acks.highest_applied(stored.epoch).unwrap_or_default();
            RegistryPosition { revision: stored.revision.max(told), ..stored }
        });
        match self.publisher.take_stand(self.installation_id, known).await {
            Ok(stand) if self.acks.epoch().is_some_and(|epoch| epoch != stand.epoch) => {
                self.metrics.registry_epochs_total.inc();
                self.acks.set_epoch(None);
                Ok(stand)
            }
            Ok(stand) => Ok(stand),
            Err(error @ PublishError::OtherInstallation(_)) => {
                self.acks.set_epoch(None);
                self.is_complete.store(false, Ordering::Release);
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One round.
    pub async fn round(&self) -> Result<(), ReconcileError> {
        let stand = self.take_stand().await?;
        self.record_position(stand).await?;
        // Before circuits: whoever sees a private one must be able to tell who may use it.
        self.publisher.publish_keys(&self.public_keys).await?;
        let mut known = self.list_registry().await?;
        let total = known.len();
        let mut revisions: HashMap<CircuitKey, Revision> = HashMap::new();
        let mut unjudged: Vec<StoredCircuit> = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.list_circuits(&ListFilter { after, limit: PAGE, ..ListFilter::default() }).await?;
            after = page.last().map(|circuit| circuit.row.key.clone());
            if after.is_none() {
                break;
            }
            let mut repairs = stream::iter(self.repairs(page, &mut known)).buffer_unordered(PUBLISH_CONCURRENCY);
            while let Some((circuit, repaired)) = repairs.try_next().await? {
                if let Some(repaired) = repaired.filter(|repaired| circuit.status != repaired.served_status) {
                    revisions.insert(repaired.key, repaired.revision);
                    unjudged.push(circuit);
                }
            }
        }
        for tombstone in self.store.all_tombstones().await? {
            self.repair_closed(&tombstone, &mut known).await?;
        }
        self.delete_strays(known, total, stand).await?;
        self.publisher.declare_complete(self.installation_id, stand).await?;
        self.acks.set_epoch(Some(stand.epoch));
        if !self.is_complete.swap(true, Ordering::AcqRel) {
            tracing::info!(circuits = total, epoch = %stand.epoch, "the registry holds every circuit of the store");
        }
        self.judge(&unjudged, &revisions).await?;
        self.confirm_ports().await?;
        self.bury().await?;
        self.store.forget_rested(&RestRules::from(&self.timing), self.clock.now_ms()).await?;
        self.record_position(stand).await
    }

    async fn record_position(&self, stand: Stand) -> Result<(), ReconcileError> {
        let position = RegistryPosition { epoch: stand.epoch, revision: self.publisher.reached() };
        Ok(self.store.record_registry_position(position).await?)
    }

    async fn list_registry(&self) -> Result<HashMap<CircuitKey, Known>, ReconcileError> {
        let layout = self.publisher.layout();
        let before = self.publisher.reached();
        let listing = self.publisher.registry().list(&layout.circuits()).await?;
        self.publisher.note(before, listing.revision)?;
        let mut known = HashMap::with_capacity(listing.entries.len());
        for entry in listing.entries {
            let Place::Circuit(key) = layout.parse(&entry.key) else { continue };
            let generation = CircuitState::decode(&entry.value).ok().map(|state| state.generation());
            known.insert(key, Known { entry, generation });
        }
        Ok(known)
    }

    /// What is to be done about open circuits, each by itself; what the registry has of them is no stray.
    fn repairs(
        &self,
        page: Vec<StoredCircuit>,
        known: &mut HashMap<CircuitKey, Known>,
    ) -> Vec<impl Future<Output = Result<(StoredCircuit, Option<Repaired>), ReconcileError>>> {
        let mut repairs = Vec::with_capacity(page.len());
        for circuit in page {
            let versioned = match circuit.row.versioned() {
                Ok(versioned) => versioned,
                Err(error) => {
                    tracing::error!(%error, "a stored circuit does not read and is passed over");
                    // It is the store's all the same: what edges serve of it stays.
                    if let Ok(key) = circuit.row.key.parse::<CircuitKey>() {
                        known.remove(&key);
                    }
                    continue;
                }
            };
            let found = known.remove(&versioned.circuit.key);
            repairs.push(async move {
                let repaired = self.repair_open(&circuit, versioned, found).await?;
                Ok((circuit, repaired))
            });
        }
        repairs
    }

    /// Brings the registry, which had `found`, up to an open circuit.
    async fn repair_open(
        &self,
        circuit: &StoredCircuit,
        versioned: Versioned,
        found: Option<Known>,
    ) -> Result<Option<Repaired>, ReconcileError> {
        let key = versioned.circuit.key.clone();
        let generation = versioned.generation;
        let served_status = circuit.health.served_status(&versioned.circuit.targets);
        // The store was read later: what is newer in the registry is nothing that the store ever will have.
        if let Some(found) = found
            && found.generation == Some(generation)
        {
            if circuit.row.published_generation < circuit.row.generation {
                self.store.mark_published(&key, generation).await?;
            }
            return Ok(Some(Repaired { key, revision: found.entry.revision, served_status }));
        }
        let (generation, revision) = match self.publisher.publish_stored(&self.store, versioned).await? {
            Err(PublishError::Envelope(error)) => {
                tracing::error!(%key, %error, "a stored circuit does not fit into the registry and is passed over");
                return Ok(None);
            }
            outcome => outcome?,
        };
        if circuit.row.published_generation < to_column(generation.0) {
            self.metrics.reconcile_repairs_total.inc();
            tracing::info!(%key, %generation, "published a circuit that the registry did not have");
            self.store.mark_published(&key, generation).await?;
        }
        Ok(Some(Repaired { key, revision, served_status }))
    }

    async fn repair_closed(
        &self,
        tombstone: &Tombstone,
        known: &mut HashMap<CircuitKey, Known>,
    ) -> Result<(), ReconcileError> {
        let Some(found) = known.remove(&tombstone.key) else { return Ok(()) };
        if found.generation != Some(tombstone.generation) {
            self.publisher.publish_tombstone(&self.store, &tombstone.key, tombstone.generation).await??;
            self.metrics.reconcile_repairs_total.inc();
            tracing::info!(key = %tombstone.key, "closed a circuit that the registry still had");
        }
        Ok(())
    }

    /// Deletes keys that belong to nobody, unless they are too many to be believed.
    async fn delete_strays(
        &self,
        strays: HashMap<CircuitKey, Known>,
        total: usize,
        stand: Stand,
    ) -> Result<(), ReconcileError> {
        if !stand.went_back && strays.len() > deletable(total) {
            self.metrics.reconcile_refusals_total.inc();
            tracing::error!(
                strays = strays.len(),
                total,
                "the registry holds many circuits that the store does not know; nothing is deleted, an operator must look"
            );
            return Ok(());
        }
        for (key, stray) in strays {
            self.publisher.delete(&stray.entry).await?;
            self.metrics.reconcile_repairs_total.inc();
            tracing::warn!(%key, "deleted a circuit from the registry that the store does not know");
        }
        Ok(())
    }

    /// Circuits whose status is another than that of a served one look again.
    async fn judge(
        &self,
        unjudged: &[StoredCircuit],
        revisions: &HashMap<CircuitKey, Revision>,
    ) -> Result<(), ReconcileError> {
        let mut served: BTreeMap<&str, (CircuitStatus, Vec<CircuitId>)> = BTreeMap::new();
        for circuit in unjudged {
            let Ok(versioned) = circuit.row.versioned() else { continue };
            let key = &versioned.circuit.key;
            let Some(revision) = revisions.get(key).copied() else { continue };
            let wanted = Wanted {
                authority: versioned.circuit.authority.clone(),
                revision,
                key: key.clone(),
                generation: versioned.generation,
            };
            if self.acks.look(&wanted).workers.is_empty() {
                continue;
            }
            let status = circuit.health.served_status(&versioned.circuit.targets);
            served.entry(status.as_str()).or_insert((status, Vec::new())).1.push(CircuitId(circuit.row.id));
        }
        for (status, ids) in served.into_values() {
            self.store.record_statuses(&ids, status, self.clock.now_ms()).await?;
        }
        Ok(())
    }

    /// Lets the rest of released ports count when every worker has let go of them.
    async fn confirm_ports(&self) -> Result<(), ReconcileError> {
        let mut after = None;
        loop {
            let page = self.store.unconfirmed_ports(after.as_ref(), PAGE).await?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            self.confirm_page(page).await?;
            after = Some(last);
        }
    }

    async fn confirm_page(&self, page: Vec<UnconfirmedPort>) -> Result<(), ReconcileError> {
        let registry = self.publisher.registry();
        let mut confirmed = Vec::new();
        for port in page {
            // A worker that has said nothing has let go of nothing: its authority's ports need no further look.
            if !self.acks.have_all_applied(&port.authority, Revision::default()) {
                continue;
            }
            let (entry, at) = registry.get(&self.publisher.layout().circuit(&port.key)).await?;
            // Whatever has replaced the closed envelope since lets go of the old slot too.
            let (is_published, revision) = match entry {
                Some(entry) => {
                    let generation = CircuitState::decode(&entry.value).ok().map(|state| state.generation());
                    (generation.is_some_and(|generation| generation >= port.generation), entry.revision)
                }
                None => (true, at),
            };
            if is_published && self.acks.have_all_applied(&port.authority, revision) {
                confirmed.push((port.key, port.generation));
            }
        }
        Ok(self.store.confirm_ports(&confirmed).await?)
    }

    /// Forgets closed keys after a while, in the registry first.
    async fn bury(&self) -> Result<(), ReconcileError> {
        let life_ms = i64::try_from(self.timing.tombstone_life.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.clock.now_ms().saturating_sub(life_ms);
        let registry = self.publisher.registry();
        for tombstone in self.store.buriable_tombstones(before_ms, PAGE).await? {
            let (entry, _) = registry.get(&self.publisher.layout().circuit(&tombstone.key)).await?;
            if let Some(entry) = entry {
                let state = CircuitState::decode(&entry.value).ok();
                if state != Some(CircuitState::Closed { generation: tombstone.generation }) {
                    continue;
                }
                if self.publisher.delete(&entry).await? == Swap::Conflict {
                    continue;
                }
            }
            self.store.forget_tombstone(&tombstone).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_or_a_hundred_may_go() {
        assert_eq!(deletable(0), 100);
        assert_eq!(deletable(1_000), 100);
        assert_eq!(deletable(50_000), 5_000);
    }
}
