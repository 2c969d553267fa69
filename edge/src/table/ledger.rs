//! What a change of the registry means for the table: a pure core that takes observations and plans changes.
//!
//! Invariant: every slot has at most one owner, every circuit that is served or refused belongs to this edge's
//! authority, and what is held back is served.

mod held;
mod remembered;

use std::collections::{BTreeMap, HashMap, HashSet};

use entities::circuit::Versioned;
use entities::ids::{AuthorityName, CircuitId, CircuitKey, Generation};
use entities::worker::{Refusal, RefusalCode};

use tokio::time::Instant;

use crate::freshness::MaxStaleness;
use crate::slot::Slot;
use held::{Absent, Held};

/// What is served and what cannot be.
#[derive(Debug)]
pub(crate) struct Ledger {
    authority: AuthorityName,
    served: HashMap<CircuitKey, Served>,
    owners: HashMap<Slot, CircuitKey>,
    refused: BTreeMap<CircuitKey, (Generation, RefusalCode)>,
    held: Held,
    limits: MaxStaleness,
    /// What the snapshot says, until the first list that is trusted or until it has to be served.
    remembered: HashMap<CircuitKey, Versioned>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Served {
    id: CircuitId,
    generation: Generation,
    slot: Slot,
    is_public: bool,
}

/// What the registry says about a key.
#[derive(Debug, Clone)]
pub(crate) enum Observation {
    /// It is to be served like this.
    Open(Box<Versioned>),
    /// It was closed by this generation.
    Closed(Generation),
    /// It belongs to another authority.
    Elsewhere,
    /// There is no such key any more.
    Gone,
    /// There is a value that cannot be read: what stands stays.
    Unreadable,
}

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Circuits that leave their slots.
    pub(crate) leaving: Vec<Leaving>,
    /// Circuits that stay in their slots and change otherwise.
    pub(crate) changing: Vec<Versioned>,
    /// Circuits that take slots which are free by now.
    pub(crate) entering: Vec<Versioned>,
    /// Circuits of the snapshot that have ended before they were served in this run.
    pub(crate) forgotten: Vec<CircuitKey>,
}

/// A plan that is being made.
#[derive(Default)]
struct Draft {
    plan: Plan,
    /// All leave before any enters: in one batch a slot may pass from one circuit to another.
    entering: Vec<(CircuitKey, Versioned)>,
    gone: Vec<CircuitKey>,
}

/// A circuit that leaves its slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Which circuit.
    pub(crate) key: CircuitKey,
    /// What becomes free.
    pub(crate) slot: Slot,
    /// Whether it goes on in another slot; otherwise its life ends.
    pub(crate) is_moving: bool,
}

// === impl Plan ===

impl Plan {
    /// How many circuits it is about. One that moves to another slot leaves and enters.
    pub(crate) fn touched(&self) -> usize {
        let closing = self.leaving.iter().filter(|leaving| !leaving.is_moving).count();
        closing + self.changing.len() + self.entering.len()
    }
}

// === impl Ledger ===

impl Ledger {
    /// An empty ledger of an edge that serves `authority`; removals are held back for `limits` at most.
    pub(crate) fn new(authority: AuthorityName, limits: MaxStaleness) -> Self {
        Self {
            authority,
            served: HashMap::new(),
            owners: HashMap::new(),
            refused: BTreeMap::new(),
            held: Held::default(),
            limits,
            remembered: HashMap::new(),
        }
    }

    /// How many circuits are served.
    pub(crate) fn served(&self) -> usize {
        self.served.len()
    }

    /// How many of them the registry does not name.
    pub(crate) fn held_back(&self) -> usize {
        self.held.len()
    }

    /// Whether anything follows from news about `key`, whatever they are but a circuit to be served.
    pub(crate) fn knows(&self, key: &CircuitKey) -> bool {
        self.served.contains_key(key) || self.refused.contains_key(key) || self.remembered.contains_key(key)
    }

    /// Circuits that cannot be served here, at most `limit`.
    pub(crate) fn refusals(&self, limit: usize) -> Vec<Refusal> {
        let refusal = |(key, (generation, code)): (&CircuitKey, &(Generation, RefusalCode))| Refusal {
            key: key.clone(),
            generation: *generation,
            code: *code,
        };
        self.refused.iter().take(limit).map(refusal).collect()
    }

    /// How many circuits cannot be served here.
    pub(crate) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// Plans what a whole list means: what it does not name is gone, unless that is too much to be believed.
    pub(crate) fn plan_listing(&mut self, observations: Vec<(CircuitKey, Observation)>, now: Instant) -> Plan {
        let known = self.served.len() + self.remembered.len();
        let named: HashSet<&CircuitKey> = observations.iter().map(|(key, _)| key).collect();
        let is_absent = |key: &&CircuitKey| !named.contains(*key);
        let mut gone: Vec<CircuitKey> = self.served.keys().filter(is_absent).cloned().collect();
        let refused: Vec<CircuitKey> = self.refused.keys().filter(is_absent).cloned().collect();
        gone.extend(self.remembered.keys().filter(is_absent).cloned());
        let mut draft = Draft { gone, ..Draft::default() };
        for key in refused {
            self.refused.remove(&key);
        }
        let unreadable: Vec<CircuitKey> = observations
            .iter()
            .filter(|(_, observation)| matches!(observation, Observation::Unreadable))
            .map(|(key, _)| key.clone())
            .collect();
        for (key, observation) in observations {
            self.take(key, observation, &mut draft);
        }
        self.remove(known, &mut draft, now);
        self.enter_all(&mut draft);
        self.settle_remembered(unreadable, &mut draft);
        draft.plan
    }

    /// Plans what changes mean, at most one for each key.
    pub(crate) fn plan(&mut self, observations: Vec<(CircuitKey, Observation)>, now: Instant) -> Plan {
        let (known, held) = (self.served.len(), self.held.len());
        let mut draft = Draft::default();
        for (key, observation) in observations {
            self.take(key, observation, &mut draft);
        }
        if !draft.gone.is_empty() || self.held.len() != held {
            let newly_gone: HashSet<&CircuitKey> = draft.gone.iter().collect();
            let still: Vec<_> = self.held.keys().filter(|key| !newly_gone.contains(*key)).cloned().collect();
            draft.gone.extend(still);
            self.remove(known, &mut draft, now);
        }
        self.enter_all(&mut draft);
        draft.plan
    }

    /// Notes that a circuit which was to enter could not be served.
    pub(crate) fn refuse(&mut self, key: CircuitKey, code: RefusalCode) {
        if let Some(served) = self.served.remove(&key) {
            self.owners.remove(&served.slot);
            self.held.release(&key);
            self.refused.insert(key, (served.generation, code));
        }
    }

    fn take(&mut self, key: CircuitKey, observation: Observation, draft: &mut Draft) {
        if matches!(observation, Observation::Gone) {
            if self.served.contains_key(&key) {
                draft.gone.push(key);
            } else {
                self.refused.remove(&key);
            }
            return;
        }
        self.held.release(&key);
        match observation {
            Observation::Open(versioned) if versioned.circuit.authority == self.authority => {
                self.plan_open(key, *versioned, draft);
            }
            Observation::Open(_) | Observation::Elsewhere => self.leave(&key, false, &mut draft.plan),
            Observation::Closed(generation) => {
                let is_late = self.served.get(&key).is_some_and(|served| generation < served.generation);
                if !is_late {
                    self.leave(&key, false, &mut draft.plan);
                }
            }
            Observation::Gone | Observation::Unreadable => {}
        }
    }

    fn plan_open(&mut self, key: CircuitKey, versioned: Versioned, draft: &mut Draft) {
        let Some(served) = self.served.get_mut(&key) else {
            draft.entering.push((key, versioned));
            return;
        };
        let is_same_life = served.id == versioned.circuit.id;
        // A generation counts within one life: a key whose tombstone is gone starts again from the first.
        if is_same_life && versioned.generation <= served.generation {
            return;
        }
        if is_same_life && served.slot == Slot::of(&versioned.circuit.frontend) {
            served.generation = versioned.generation;
            served.is_public = versioned.circuit.access.public;
            draft.plan.changing.push(versioned);
        } else {
            self.leave(&key, is_same_life, &mut draft.plan);
            draft.entering.push((key, versioned));
        }
    }

    /// Removes what is gone, as far as it is believed to be; `known` circuits there were.
    fn remove(&mut self, known: usize, draft: &mut Draft, now: Instant) {
        let is_public = |key: &CircuitKey| match (self.served.get(key), self.remembered.get(key)) {
            (Some(served), _) => served.is_public,
            (None, Some(versioned)) => versioned.circuit.access.public,
            (None, None) => true,
        };
        let absent = std::mem::take(&mut draft.gone);
        let absent = absent.into_iter().map(|key| Absent { is_public: is_public(&key), key }).collect();
        for key in self.held.judge(known, absent, self.limits, now) {
            self.leave(&key, false, &mut draft.plan);
        }
    }

    fn leave(&mut self, key: &CircuitKey, is_moving: bool, plan: &mut Plan) {
        self.refused.remove(key);
        self.held.release(key);
        if let Some(served) = self.served.remove(key) {
            self.owners.remove(&served.slot);
            plan.leaving.push(Leaving { key: key.clone(), slot: served.slot, is_moving });
        }
    }

    fn enter_all(&mut self, draft: &mut Draft) {
        for (key, versioned) in std::mem::take(&mut draft.entering) {
            self.enter(key, versioned, &mut draft.plan);
        }
    }

    fn enter(&mut self, key: CircuitKey, versioned: Versioned, plan: &mut Plan) {
        let slot = Slot::of(&versioned.circuit.frontend);
        match self.owners.get(&slot).cloned() {
            // The registry does not name the owner, and it gave the slot away.
            Some(owner) if self.held.contains(&owner) => self.leave(&owner, false, plan),
            Some(_) => {
                self.refused.insert(key, (versioned.generation, RefusalCode::SlotTaken));
                return;
            }
            None => {}
        }
        self.refused.remove(&key);
        self.owners.insert(slot.clone(), key.clone());
        let is_public = versioned.circuit.access.public;
        let served = Served { id: versioned.circuit.id, generation: versioned.generation, slot, is_public };
        self.served.insert(key, served);
        plan.entering.push(versioned);
    }
}

#[cfg(test)]
mod tests;
