//! Publishes what the store has, also into a registry that is ahead of it.
//!
//! The registry is written after the store, so it is ahead only when the store has lost something: it was restored
//! from a backup, or a key was forgotten there first. Its generations would then hide every change from edges.
//!
//! Invariant: a key is raised only while the store still has the generation that was to be published. If it has gone
//! on, whoever did that publishes it.

use entities::circuit::Versioned;
use entities::ids::{CircuitKey, Generation, Revision};

use super::{PublishError, Published, Publisher};
use crate::store::{Store, StoreError};

/// The generation under which edges know it, and from which revision on.
pub type Reached = Result<(Generation, Revision), PublishError>;

impl Publisher {
    /// Publishes an open circuit as the store has it.
    pub async fn publish_stored(&self, store: &Store, mut circuit: Versioned) -> Result<Reached, StoreError> {
        let asked = circuit.generation;
        let (generation, revision) = match self.publish_open(circuit.clone()).await {
            Ok(Published::At(revision)) => return Ok(Ok((asked, revision))),
            Ok(Published::Overtaken { generation, revision }) => (generation, revision),
            Err(error) => return Ok(Err(error)),
        };
        let key = &circuit.circuit.key;
        let Some(raised) = store.raise_circuit(key, asked, generation).await? else {
            return Ok(Ok((asked, revision)));
        };
        tracing::warn!(%key, store = %asked, registry = %generation, "the registry is ahead of the store; overtaking it");
        circuit.generation = raised;
        Ok(self.publish_open(circuit).await.map(|published| (raised, published.revision())))
    }

    /// Publishes that a circuit is closed, as the store remembers it.
    pub async fn publish_tombstone(
        &self,
        store: &Store,
        key: &CircuitKey,
        asked: Generation,
    ) -> Result<Reached, StoreError> {
        let (generation, revision) = match self.publish_closed(key, asked).await {
            Ok(Published::At(revision)) => return Ok(Ok((asked, revision))),
            Ok(Published::Overtaken { generation, revision }) => (generation, revision),
            Err(error) => return Ok(Err(error)),
        };
        let Some(raised) = store.raise_tombstone(key, asked, generation).await? else {
            return Ok(Ok((asked, revision)));
        };
        tracing::warn!(%key, store = %asked, registry = %generation, "the registry is ahead of the store; overtaking it");
        Ok(self.publish_closed(key, raised).await.map(|published| (raised, published.revision())))
    }
}
