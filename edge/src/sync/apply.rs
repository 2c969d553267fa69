//! Carries plans out: table and sockets.
//!
//! Invariant: when a plan is carried out, every circuit of the ledger is in the table and its port listens, no port
//! listens without a circuit, and the journal names exactly what is in the table.

use std::collections::HashMap;
use std::sync::Arc;

use entities::authority::Authority;
use entities::circuit::Versioned;
use entities::ids::CircuitKey;
use entities::token::{KeyId, PublicKey};
use entities::worker::Refusal;
use tokio::time::Instant;

use super::drains::Drains;
use super::{OpenPort as _, Ports, SyncMetrics};
use crate::access::PublicKeys;
use crate::balance::TargetContext;
use crate::circuit::LiveCircuit;
use crate::config::Config;
use crate::limits::TimeLimits;
use crate::metrics::as_gauge;
use crate::slot::Slot;
use crate::snapshot::Journal;
use crate::table::Table;
use crate::table::ledger::{Leaving, Ledger, Observation, Plan};

/// Circuits that enter before others on this thread get a turn; half a millisecond of work.
const YIELD_AFTER: usize = 100;

/// Writes the table and opens and closes ports; nothing else does.
pub(crate) struct Applier<P> {
    ledger: Ledger,
    table: Arc<Table>,
    ports: P,
    keys: Arc<PublicKeys>,
    /// What the snapshot has of them.
    remembered_keys: Vec<PublicKey>,
    drains: Drains,
    authority: Authority,
    limits: TimeLimits,
    context: Arc<TargetContext>,
    journal: Option<Arc<Journal>>,
    metrics: Arc<SyncMetrics>,
}

/// What a list says about public keys.
#[derive(Debug, Default)]
pub(super) struct KeyListing {
    /// Those that it names.
    pub(super) found: Vec<PublicKey>,
    /// Those whose values cannot be read.
    pub(super) unreadable: Vec<KeyId>,
}

// === impl Applier ===

impl<P: Ports> Applier<P> {
    /// Writes `table` for the edge that `config` describes, whose circuits share `context`, and notes in `journal` what
    /// stands there.
    pub(crate) fn new(
        config: &Config,
        table: Arc<Table>,
        ports: P,
        keys: Arc<PublicKeys>,
        context: Arc<TargetContext>,
        journal: Option<Arc<Journal>>,
        metrics: Arc<SyncMetrics>,
    ) -> Self {
        Self {
            ledger: Ledger::new(config.authority.name.clone(), config.max_staleness()),
            drains: Drains::new(Arc::clone(&table), Arc::clone(&metrics)),
            table,
            ports,
            keys,
            remembered_keys: Vec::new(),
            context,
            authority: config.authority.clone(),
            limits: config.limits,
            journal,
            metrics,
        }
    }

    /// Circuits that cannot be served here, at most `limit`.
    pub(crate) fn refusals(&self, limit: usize) -> Vec<Refusal> {
        self.ledger.refusals(limit)
    }

    /// How many circuits are served that the registry does not name.
    pub(super) fn held_back(&self) -> usize {
        self.ledger.held_back()
    }

    /// Whether anything follows from news about `key`, whatever they are but a circuit to be served.
    pub(super) fn knows(&self, key: &CircuitKey) -> bool {
        self.ledger.knows(key)
    }

    /// The ports that are open, for whoever closes them.
    pub(super) fn into_ports(self) -> P {
        self.ports
    }

    /// Takes note of what the snapshot says.
    pub(super) fn remember(&mut self, circuits: Vec<Versioned>, keys: Vec<PublicKey>) {
        self.ledger.remember(circuits);
        self.remembered_keys = keys;
    }

    /// Serves what the snapshot says.
    pub(super) async fn apply_remembered(&mut self) {
        self.keys.replace(std::mem::take(&mut self.remembered_keys));
        let plan = self.ledger.plan_remembered();
        self.carry_out(plan).await;
    }

    /// Accepts the keys of a whole list and no others.
    pub(super) fn apply_keys(&mut self, listing: KeyListing) {
        let KeyListing { found, unreadable } = listing;
        let before = [self.keys.all(), std::mem::take(&mut self.remembered_keys)].concat();
        let stay = before.into_iter().filter(|key| unreadable.contains(&key.id()));
        if self.keys.replace(found.into_iter().chain(stay)) {
            self.note_keys();
        }
    }

    /// Accepts a key from now on, or no more.
    pub(super) fn change_key(&self, id: &KeyId, key: Option<PublicKey>) {
        if self.keys.change(id, key) {
            self.note_keys();
        }
    }

    /// Makes the table what a whole list says.
    pub(super) async fn apply_listing(&mut self, observations: Vec<(CircuitKey, Observation)>) {
        let plan = self.ledger.plan_listing(observations, Instant::now());
        self.carry_out(plan).await;
    }

    /// Applies changes.
    pub(super) async fn apply_changes(&mut self, observations: Vec<(CircuitKey, Observation)>) {
        let plan = self.ledger.plan(observations, Instant::now());
        self.carry_out(plan).await;
    }

    async fn carry_out(&mut self, plan: Plan) {
        plan.forgotten.iter().for_each(|key| self.note_gone(key));
        self.metrics.circuits_touched.inc_by(plan.touched() as u64);
        let mut moving = self.leave(plan.leaving).await;
        for versioned in plan.changing {
            self.change(versioned);
        }
        for (index, versioned) in plan.entering.into_iter().enumerate() {
            if index % YIELD_AFTER == YIELD_AFTER - 1 {
                tokio::task::yield_now().await;
            }
            let before = moving.remove(&versioned.circuit.key);
            self.enter(versioned, before);
        }
        // What was to move and found its new slot taken is not served any more.
        for (key, circuit) in moving {
            self.note_gone(&key);
            self.drains.begin(&circuit);
        }
        self.metrics.circuits.set(as_gauge(self.ledger.served()));
        self.metrics.circuits_refused.set(as_gauge(self.ledger.refused()));
        self.metrics.ports_open.set(as_gauge(self.ports.count()));
    }

    /// Takes circuits out of the table and closes their ports; those that go on elsewhere come back.
    async fn leave(&mut self, leaving: Vec<Leaving>) -> HashMap<CircuitKey, Arc<LiveCircuit>> {
        let mut moving = HashMap::new();
        let mut closing = Vec::new();
        for Leaving { key, slot, is_moving } in leaving {
            if let Some(circuit) = self.table.remove(&slot) {
                if is_moving {
                    moving.insert(key, circuit);
                } else {
                    self.note_gone(&key);
                    tracing::debug!(%key, "circuit closed");
                    self.drains.begin(&circuit);
                }
            }
            if let Slot::Port(port) = slot {
                closing.extend(self.ports.take(port));
            }
        }
        futures_util::future::join_all(closing.into_iter().map(|port| port.close())).await;
        moving
    }

    fn change(&mut self, versioned: Versioned) {
        let before = self.table.get(&Slot::of(&versioned.circuit.frontend));
        self.note(&versioned);
        let circuit = self.live(versioned, before.as_deref());
        self.let_go(&circuit, before.as_deref());
        tracing::debug!(key = %circuit.key, targets = circuit.balancer.len(), "circuit changed");
        self.table.put(circuit);
    }

    fn let_go(&mut self, circuit: &LiveCircuit, before: Option<&LiveCircuit>) {
        if let Some(before) = before {
            self.drains.let_go(circuit, circuit.balancer.let_go(&before.balancer));
        }
    }

    fn enter(&mut self, versioned: Versioned, before: Option<Arc<LiveCircuit>>) {
        self.note(&versioned);
        let circuit = self.live(versioned, before.as_deref());
        self.let_go(&circuit, before.as_deref());
        let key = circuit.key.clone();
        // In the table before its port listens, so that the first connection finds it.
        self.table.put(Arc::clone(&circuit));
        let opened = match circuit.slot {
            Slot::Port(port) => self.ports.open(port, circuit.backend),
            Slot::Host(_) => Ok(()),
        };
        match opened {
            Ok(()) => tracing::debug!(%key, targets = circuit.balancer.len(), "circuit opened"),
            Err(code) => {
                self.table.remove(&circuit.slot);
                self.note_gone(&key);
                self.ledger.refuse(key, code);
                self.drains.begin(&circuit);
            }
        }
    }

    fn note(&self, versioned: &Versioned) {
        if let Some(journal) = &self.journal {
            journal.put(versioned);
        }
    }

    fn note_keys(&self) {
        if let Some(journal) = &self.journal {
            journal.put_keys(self.keys.all());
        }
    }

    fn note_gone(&self, key: &CircuitKey) {
        if let Some(journal) = &self.journal {
            journal.gone(key);
        }
    }

    fn live(&self, versioned: Versioned, before: Option<&LiveCircuit>) -> Arc<LiveCircuit> {
        Arc::new(LiveCircuit::new(versioned, &self.authority, self.limits, before, &self.context))
    }
}
