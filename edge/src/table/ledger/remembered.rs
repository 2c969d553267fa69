//! What the snapshot says, and what becomes of it.
//!
//! Invariant: it is served as a whole, or what the first list leaves of it; after that there is nothing remembered.

use entities::circuit::Versioned;
use entities::ids::CircuitKey;

use super::{Draft, Ledger, Plan};
use crate::slot::Slot;

impl Ledger {
    /// Takes note of what the snapshot says. It is not served: the first list may know better.
    pub(crate) fn remember(&mut self, circuits: Vec<Versioned>) {
        let is_ours = |versioned: &Versioned| versioned.circuit.authority == self.authority;
        let ours = circuits.into_iter().filter(is_ours);
        self.remembered = ours.map(|versioned| (versioned.circuit.key.clone(), versioned)).collect();
    }

    /// Plans to serve what the snapshot says, because no list can be had.
    pub(crate) fn plan_remembered(&mut self) -> Plan {
        let mut draft =
            Draft { entering: std::mem::take(&mut self.remembered).into_iter().collect(), ..Draft::default() };
        self.enter_all(&mut draft);
        draft.plan
    }

    /// After the first list the snapshot has nothing more to say, but for what is held back or could not be read.
    pub(super) fn settle_remembered(&mut self, unreadable: Vec<CircuitKey>, draft: &mut Draft) {
        let mut remembered = std::mem::take(&mut self.remembered);
        if remembered.is_empty() {
            return;
        }
        let held: Vec<CircuitKey> = self.held.keys().cloned().collect();
        for key in unreadable.into_iter().chain(held) {
            let Some(versioned) = remembered.remove(&key) else { continue };
            let is_free = !self.owners.contains_key(&Slot::of(&versioned.circuit.frontend));
            if is_free {
                self.enter(key, versioned, &mut draft.plan);
            } else {
                self.held.release(&key);
                draft.plan.forgotten.push(key);
            }
        }
        let forgotten = remembered.into_keys().filter(|key| !self.served.contains_key(key));
        draft.plan.forgotten.extend(forgotten);
    }
}
