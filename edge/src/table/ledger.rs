//! What a change of the registry means for the table: a pure core that takes observations and plans changes.
//!
//! Invariant: every slot has at most one owner, and every circuit that is served or refused belongs to this edge's
//! authority.

use std::collections::{BTreeMap, HashMap, HashSet};

use entities::circuit::Versioned;
use entities::ids::{AuthorityName, CircuitId, CircuitKey, Generation};
use entities::worker::{Refusal, RefusalCode};

use super::Slot;

/// What is served and what cannot be.
#[derive(Debug)]
pub(crate) struct Ledger {
    authority: AuthorityName,
    served: HashMap<CircuitKey, Served>,
    owners: HashMap<Slot, CircuitKey>,
    refused: BTreeMap<CircuitKey, (Generation, RefusalCode)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Served {
    id: CircuitId,
    generation: Generation,
    slot: Slot,
}

/// What the registry says about a key.
#[derive(Debug, Clone)]
pub(crate) enum Observation {
    /// It is to be served like this.
    Open(Box<Versioned>),
    /// It was closed by this generation.
    Closed(Generation),
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

// === impl Ledger ===

impl Ledger {
    /// An empty ledger of an edge that serves `authority`.
    pub(crate) fn new(authority: AuthorityName) -> Self {
        Self { authority, served: HashMap::new(), owners: HashMap::new(), refused: BTreeMap::new() }
    }

    /// How many circuits are served.
    pub(crate) fn served(&self) -> usize {
        self.served.len()
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

    /// Plans what a whole list means: what it does not name is gone.
    pub(crate) fn plan_listing(&mut self, mut observations: Vec<(CircuitKey, Observation)>) -> Plan {
        let named: HashSet<&CircuitKey> = observations.iter().map(|(key, _)| key).collect();
        let is_gone = |key: &&CircuitKey| !named.contains(*key);
        let gone: Vec<CircuitKey> = self.served.keys().chain(self.refused.keys()).filter(is_gone).cloned().collect();
        observations.extend(gone.into_iter().map(|key| (key, Observation::Gone)));
        self.plan(observations)
    }

    /// Plans what changes mean, at most one for each key.
    pub(crate) fn plan(&mut self, observations: Vec<(CircuitKey, Observation)>) -> Plan {
        let mut plan = Plan::default();
        // All leave before any enters: in one batch a slot may pass from one circuit to another.
        let mut entering = Vec::new();
        for (key, observation) in observations {
            match observation {
                Observation::Open(versioned) if versioned.circuit.authority == self.authority => {
                    self.plan_open(key, *versioned, &mut plan, &mut entering);
                }
                Observation::Open(_) | Observation::Gone => self.leave(&key, false, &mut plan),
                Observation::Closed(generation) => {
                    let is_late = self.served.get(&key).is_some_and(|served| generation < served.generation);
                    if !is_late {
                        self.leave(&key, false, &mut plan);
                    }
                }
                Observation::Unreadable => {}
            }
        }
        for (key, versioned) in entering {
            self.enter(key, versioned, &mut plan);
        }
        plan
    }

    /// Notes that a circuit which was to enter could not be served.
    pub(crate) fn refuse(&mut self, key: CircuitKey, code: RefusalCode) {
        if let Some(served) = self.served.remove(&key) {
            self.owners.remove(&served.slot);
            self.refused.insert(key, (served.generation, code));
        }
    }

    fn plan_open(
        &mut self,
        key: CircuitKey,
        versioned: Versioned,
        plan: &mut Plan,
        entering: &mut Vec<(CircuitKey, Versioned)>,
    ) {
        let Some(served) = self.served.get_mut(&key) else {
            entering.push((key, versioned));
            return;
        };
        let is_same_life = served.id == versioned.circuit.id;
        // A generation counts within one life: a key whose tombstone is gone starts again from the first.
        if is_same_life && versioned.generation <= served.generation {
            return;
        }
        if is_same_life && served.slot == Slot::of(&versioned.circuit.frontend) {
            served.generation = versioned.generation;
            plan.changing.push(versioned);
        } else {
            self.leave(&key, is_same_life, plan);
            entering.push((key, versioned));
        }
    }

    fn leave(&mut self, key: &CircuitKey, is_moving: bool, plan: &mut Plan) {
        self.refused.remove(key);
        if let Some(served) = self.served.remove(key) {
            self.owners.remove(&served.slot);
            plan.leaving.push(Leaving { key: key.clone(), slot: served.slot, is_moving });
        }
    }

    fn enter(&mut self, key: CircuitKey, versioned: Versioned, plan: &mut Plan) {
        let slot = Slot::of(&versioned.circuit.frontend);
        if self.owners.contains_key(&slot) {
            self.refused.insert(key, (versioned.generation, RefusalCode::SlotTaken));
            return;
        }
        self.refused.remove(&key);
        self.owners.insert(slot.clone(), key.clone());
        self.served.insert(key, Served { id: versioned.circuit.id, generation: versioned.generation, slot });
        plan.entering.push(versioned);
    }
}

#[cfg(test)]
mod tests;
