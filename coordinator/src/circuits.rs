//! The use cases of circuits: open, change, close, look.
//!
//! Invariant: the order is always store → registry → edges. A crash between any two steps leaves a store that is
//! ahead of the registry, which reconcile repairs; never a registry that is ahead of the store.

mod change;
mod close;
mod open;
pub mod passes;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use entities::clock::SharedClock;
use entities::ids::{AuthorityName, CircuitId, CircuitKey, Generation, Revision};
use entities::orm::to_column;
use entities::token::SignError;
use tokio::sync::Notify;

use crate::acks::{Acks, Applied, Wanted};
use crate::config::Timing;
use crate::metrics::Metrics;
use crate::placement::{Candidate, NoPlace};
use crate::publish::{self, PublishError, Publisher};
use crate::signing::SigningKeys;
use crate::slots::RestRules;
use crate::store::{ListFilter, SlotRefusal, Store, StoreError, StoredCircuit};
use view::{AppliedView, CircuitView};

pub use close::CloseResult;
pub use open::OpenResult;

/// Names a circuit in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CircuitName {
    /// By key.
    Key(CircuitKey),
    /// By id.
    Id(CircuitId),
}

/// Why a use case did not do it.
#[derive(Debug, thiserror::Error)]
pub enum CircuitError {
    /// Nowhere to put it.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// No slot for it.
    #[error(transparent)]
    NoSlot(#[from] SlotRefusal),
    /// The key is open with other content.
    #[error("circuit {0} is open with other content")]
    OtherContent(CircuitKey),
    /// The caller saw another generation.
    #[error("the circuit has generation {0}")]
    GenerationMismatch(Generation),
    /// There is no such circuit.
    #[error("there is no such circuit")]
    NotFound,
    /// Every port that was tried was held by something else on a worker.
    #[error("no worker could bind any of {0} ports")]
    PortsRefused(usize),
    /// The circuit cannot have such rules.
    #[error("the change does not fit the circuit: {0}")]
    Invalid(entities::faults::Faults),
    /// The circuit does not fit into the registry.
    #[error(transparent)]
    TooLarge(entities::registry::layout::EnvelopeError),
    /// Tickets and tokens open circuits of HTTP.
    #[error("the circuit carries a byte stream, which shows no credential; access.allowed_clients says who may use it")]
    NotHttp,
    /// The circuit belongs to somebody else.
    #[error("the circuit belongs to another user")]
    OtherUser,
    /// There is no URL for it.
    #[error("the authority of the circuit does not take such frontends any more")]
    NoWayIn,
    /// A ticket or token could not be signed, which is a defect.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far publishing and waiting came.
#[derive(Debug, Clone)]
struct Reached {
    /// The revision that edges must have; `None` if the registry did not take it.
    revision: Option<Revision>,
    applied: Applied,
}

impl Reached {
    fn is_served(&self) -> bool {
        self.revision.is_some() && self.applied.is_served()
    }

    fn view(&self) -> AppliedView {
        AppliedView {
            revision: self.revision,
            workers: self.applied.workers.clone(),
            pending: self.applied.pending.clone(),
        }
    }
}

/// The use cases.
#[derive(Clone)]
pub struct Circuits {
    store: Store,
    publisher: Publisher,
    acks: Acks,
    clock: SharedClock,
    timing: Timing,
    metrics: Metrics,
    signing: Arc<SigningKeys>,
    /// Wakes reconcile when something was not published.
    nudge: Arc<Notify>,
}

// === impl Circuits ===

impl Circuits {
    /// The use cases over their parts.
    #[expect(clippy::too_many_arguments, reason = "each part is another thing; a struct would only repeat them")]
    pub fn new(
        store: Store,
        publisher: Publisher,
        acks: Acks,
        clock: SharedClock,
        timing: Timing,
        metrics: Metrics,
        signing: Arc<SigningKeys>,
        nudge: Arc<Notify>,
    ) -> Self {
        Self { store, publisher, acks, clock, timing, metrics, signing, nudge }
    }

    /// What the store has and the registry has not is for reconcile.
    fn leave_to_reconcile(&self, key: &CircuitKey, error: &PublishError) {
        tracing::warn!(%key, %error, "stored but not published; reconcile tries again");
        self.metrics.publish_failures_total.inc();
        self.nudge.notify_one();
    }

    fn rests(&self) -> RestRules {
        RestRules::from(&self.timing)
    }

    /// The authorities and how many of their workers can serve.
    async fn candidates(&self) -> Result<Vec<Candidate>, StoreError> {
        let followed = self.acks.workers();
        let staff = |name: &AuthorityName| {
            followed.iter().filter(|worker| worker.authority == *name && worker.is_live()).count()
        };
        let authorities = self.store.authorities().await?;
        let candidate =
            |authority: entities::authority::Authority| Candidate { workers: staff(&authority.name), authority };
        Ok(authorities.into_iter().map(candidate).collect())
    }

    /// Publishes what the store has and waits for the edges.
    async fn serve(&self, circuit: &StoredCircuit, patience: Duration) -> Result<Reached, CircuitError> {
        let versioned = circuit.row.versioned().map_err(StoreError::from)?;
        let key = versioned.circuit.key.clone();
        let id = versioned.circuit.id;
        let authority = versioned.circuit.authority.clone();
        let status = circuit.health.served_status(&versioned.circuit.targets);
        let published = self.publisher.publish_stored(&self.store, versioned).await?;
        let generation = published.as_ref().map_or(circuit.row.generation(), |(generation, _)| *generation);
        let reached = self.wait(published, authority, &key, patience).await?;
        if reached.is_served() {
            let is_known = circuit.status == status && circuit.row.published_generation >= to_column(generation.0);
            if !is_known {
                self.store.record_served(id, &key, generation, status, self.clock.now_ms()).await?;
            }
        }
        Ok(reached)
    }

    /// Waits for the edges after publishing; a registry that is away leaves the rest to reconcile.
    async fn wait(
        &self,
        published: publish::Reached,
        authority: AuthorityName,
        key: &CircuitKey,
        patience: Duration,
    ) -> Result<Reached, CircuitError> {
        match published {
            Ok((generation, revision)) => {
                let wanted = Wanted { authority, revision, key: key.clone(), generation };
                let timer = self.metrics.apply_wait_seconds.start_timer();
                let applied = self.acks.wait(&wanted, patience).await;
                timer.observe_duration();
                // Whoever only looks may look for a moment; that does not make the others late.
                if patience >= self.timing.apply_timeout {
                    self.acks.mark_late(&applied);
                }
                Ok(Reached { revision: Some(revision), applied })
            }
            Err(PublishError::Envelope(error)) => Err(CircuitError::TooLarge(error)),
            Err(error) => {
                self.leave_to_reconcile(key, &error);
                Ok(Reached { revision: None, applied: Applied::default() })
            }
        }
    }

    /// One circuit; with `patience` it waits until the edges serve it.
    pub async fn show(&self, name: &CircuitName, patience: Duration) -> Result<CircuitView, CircuitError> {
        let found = self.find(name).await?;
        let reached = self.serve(&found, patience).await?;
        let fresh = if reached.is_served() { self.find(name).await? } else { found };
        self.view(&fresh, Some(&reached)).await
    }

    /// Circuits in the order of their keys.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<CircuitView>, CircuitError> {
        let circuits = self.store.list_circuits(filter).await?;
        let authorities = self.store.authorities().await?;
        let view = |circuit: &StoredCircuit| {
            let authority = authorities.iter().find(|authority| authority.name.as_str() == circuit.row.authority);
            CircuitView::of(circuit, authority, None).map_err(|error| CircuitError::Store(error.into()))
        };
        circuits.iter().map(view).collect()
    }

    /// The status of each worker that is known.
    pub fn worker_statuses(&self) -> Vec<entities::worker::WorkerStatus> {
        self.acks.workers().into_iter().map(|worker| worker.status).collect()
    }

    async fn find(&self, name: &CircuitName) -> Result<StoredCircuit, CircuitError> {
        let found = match name {
            CircuitName::Key(key) => self.store.circuit_by_key(key).await?,
            CircuitName::Id(id) => self.store.circuit_by_id(*id).await?,
        };
        found.ok_or(CircuitError::NotFound)
    }

    async fn key_of(&self, name: &CircuitName) -> Result<CircuitKey, CircuitError> {
        match name {
            CircuitName::Key(key) => Ok(key.clone()),
            CircuitName::Id(_) => {
                let found = self.find(name).await?;
                Ok(found.row.versioned().map_err(StoreError::from)?.circuit.key)
            }
        }
    }

    async fn view(&self, circuit: &StoredCircuit, reached: Option<&Reached>) -> Result<CircuitView, CircuitError> {
        let name: AuthorityName = match circuit.row.authority.parse() {
            Ok(name) => name,
            Err(_) => return Err(CircuitError::NotFound),
        };
        let authority = self.store.authority(&name).await?;
        let applied = reached.map(Reached::view);
        CircuitView::of(circuit, authority.as_ref(), applied).map_err(|error| CircuitError::Store(error.into()))
    }
}
