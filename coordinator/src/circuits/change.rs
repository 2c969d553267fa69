//! Changing: compare generation → store → publish → wait.
//!
//! Invariant: a change never moves a circuit to another slot, so it cannot cut a connection.

use entities::circuit::CircuitPatch;
use entities::ids::Generation;

use super::view::CircuitView;
use super::{CircuitError, CircuitName, Circuits};
use crate::store::ChangeOutcome;

impl Circuits {
    /// Changes a circuit; the flag tells whether every live worker serves the change.
    pub async fn change(
        &self,
        name: &CircuitName,
        expected: Option<Generation>,
        patch: &CircuitPatch,
    ) -> Result<(CircuitView, bool), CircuitError> {
        let key = self.key_of(name).await?;
        let outcome = self.store.change_circuit(&key, expected, patch, self.clock.now_ms()).await?;
        let changed = match outcome {
            ChangeOutcome::Changed(changed) | ChangeOutcome::Unchanged(changed) => changed,
            ChangeOutcome::GenerationMismatch(generation) => {
                return Err(CircuitError::GenerationMismatch(generation));
            }
            ChangeOutcome::Invalid(faults) => return Err(CircuitError::Invalid(faults)),
            ChangeOutcome::NotFound => return Err(CircuitError::NotFound),
        };
        let reached = self.serve(&changed, self.timing.apply_timeout).await?;
        tracing::info!(%key, generation = %changed.row.generation(), is_served = reached.is_served(), "circuit changed");
        let fresh = self.store.circuit_by_key(&key).await?.unwrap_or(changed);
        Ok((self.view(&fresh, Some(&reached)).await?, reached.is_served()))
    }
}
