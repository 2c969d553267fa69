//! Store → registry: writes what edges must serve.
//!
//! Invariant: a key's value is replaced only by one of a higher generation, by compare-and-swap on what was read
//! before, so a slow writer can neither roll a circuit back nor bring a closed one back to life; and only in a registry
//! that was taken for ours.

mod keys;
mod standing;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use entities::circuit::Versioned;
use entities::ids::{CircuitKey, Generation, InstallationId, Revision};
use entities::registry::layout::{CircuitState, EnvelopeError, Layout};
use entities::registry::{Change, Entry, Expected, Fence, Registry, RegistryError, Swap, Write};
use tokio::time::Instant;

use standing::Standing;
pub use standing::{RegistryPosition, Stand};
pub use stored::Reached;

/// Why a circuit could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The registry did not take it; reconcile tries again.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The circuit does not fit into the registry.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Others changed the key all the time.
    #[error("the key kept changing for {0:?}")]
    Contended(Duration),
    /// Nobody has looked at this registry yet, or it is not ours: reconcile looks.
    #[error("the registry has not been taken for ours")]
    NoStand,
    /// The registry lost what it had: it was emptied or restored.
    #[error("the registry went back from revision {from} to {to}")]
    WentBack {
        /// What had been seen.
        from: Revision,
        /// Where it is now.
        to: Revision,
    },
    /// Another coordinator, or an operator, made it begin anew.
    #[error("the registry is another one than a moment ago")]
    Replaced,
    /// It belongs to somebody else.
    #[error("the registry belongs to installation {0}: point [registry] at our own, or remove the keys of that one")]
    OtherInstallation(InstallationId),
}

/// How publishing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Edges know it from this revision on.
    At(Revision),
    /// The registry has a newer generation of the key, or another content under the same; nothing was written.
    Overtaken {
        /// What the registry has.
        generation: Generation,
        /// What wrote it.
        revision: Revision,
    },
}

impl Published {
    /// From which revision on edges know it, or what is newer.
    pub fn revision(self) -> Revision {
        match self {
            Self::At(revision) | Self::Overtaken { revision, .. } => revision,
        }
    }
}

/// Writes circuits into the registry.
#[derive(Clone)]
pub struct Publisher {
    registry: Arc<dyn Registry>,
    layout: Layout,
    give_up_after: Duration,
    standing: Arc<Standing>,
}

impl Publisher {
    /// A publisher that gives up on a contended key after `give_up_after`.
    pub fn new(registry: Arc<dyn Registry>, layout: Layout, give_up_after: Duration) -> Self {
        Self { registry, layout, give_up_after, standing: Arc::default() }
    }

    /// The registry that is written to.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// Where keys lie in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Publishes an open circuit.
    pub async fn publish_open(&self, circuit: Versioned) -> Result<Published, PublishError> {
        let key = circuit.circuit.key.clone();
        self.publish(&key, &CircuitState::Open(Box::new(circuit))).await
    }

    /// Publishes that a circuit is closed.
    pub async fn publish_closed(&self, key: &CircuitKey, generation: Generation) -> Result<Published, PublishError> {
        self.publish(key, &CircuitState::Closed { generation }).await
    }

    /// Brings `key` to at least the generation of `state`.
    async fn publish(&self, key: &CircuitKey, state: &CircuitState) -> Result<Published, PublishError> {
        let place = self.layout.circuit(key);
        let value = state.encode()?;
        let started = Instant::now();
        let fence = self.standing.fence().await?;
        loop {
            let before = self.standing.reached();
            let (found, at) = self.registry.get(&place).await?;
            self.standing.note(before, at)?;
            let expected = match &found {
                None => Expected::Absent,
                Some(entry) => {
                    // A value that does not read belongs to nobody: it is replaced.
                    match CircuitState::decode(&entry.value).ok() {
                        Some(known) if known == *state => return Ok(Published::At(entry.revision)),
                        Some(known) if known.generation() >= state.generation() => {
                            let generation = known.generation();
                            return Ok(Published::Overtaken { generation, revision: entry.revision });
                        }
                        Some(_) | None => Expected::At(entry.revision),
                    }
                }
            };
            let change = Change::Put { value: value.clone(), lease: None };
            match self.write_fenced(&place, expected, change, &fence).await? {
                Swap::Done(revision) => return Ok(Published::At(revision)),
                Swap::Conflict if started.elapsed() >= self.give_up_after => {
                    return Err(PublishError::Contended(self.give_up_after));
                }
                Swap::Conflict => {}
            }
        }
    }

    /// Deletes a key that is as it was read.
    pub async fn delete(&self, entry: &Entry) -> Result<Swap, PublishError> {
        let fence = self.standing.fence().await?;
        self.write_fenced(&entry.key, Expected::At(entry.revision), Change::Delete, &fence).await
    }

    /// A conflict is one of the key: that of the fence is an error.
    async fn write_fenced(
        &self,
        key: &str,
        expected: Expected,
        change: Change,
        fence: &Fence,
    ) -> Result<Swap, PublishError> {
        let before = self.standing.reached();
        let write = Write { key, expected, change, fence: Some(fence) };
        match self.registry.write(write).await? {
            Swap::Done(revision) => {
                self.standing.note(before, revision)?;
                Ok(Swap::Done(revision))
            }
            Swap::Conflict => {
                let (meta, _) = self.registry.get(&fence.key).await?;
                let stands = meta.is_some_and(|meta| meta.revision == fence.revision);
                if stands { Ok(Swap::Conflict) } else { Err(PublishError::Replaced) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use entities::registry::memory::MemoryRegistry;

    use super::*;

    async fn publisher(registry: &MemoryRegistry) -> Publisher {
        let publisher = Publisher::new(Arc::new(registry.clone()), Layout::default(), Duration::from_secs(1));
        publisher.take_stand(InstallationId::random(), None).await.expect("nobody's");
        publisher
    }

    async fn generation_of(registry: &MemoryRegistry, key: &CircuitKey) -> Generation {
        let (entry, _) = registry.get(&Layout::default().circuit(key)).await.expect("in-process");
        CircuitState::decode(&entry.expect("published").value).expect("our own").generation()
    }

    #[tokio::test]
    async fn a_slow_writer_cannot_roll_a_key_back() {
        let registry = MemoryRegistry::new();
        let publisher = publisher(&registry).await;
        let key: CircuitKey = "s1:jupyter".parse().expect("valid");
        let newest = publisher.publish_closed(&key, Generation(5)).await.expect("published");
        let late = publisher.publish_closed(&key, Generation(4)).await.expect("nothing to do");
        assert_eq!(late, Published::Overtaken { generation: Generation(5), revision: newest.revision() });
        assert_eq!(generation_of(&registry, &key).await, Generation(5));
    }

    #[tokio::test]
    async fn a_value_that_does_not_read_is_replaced() {
        let registry = MemoryRegistry::new();
        let key: CircuitKey = "s1:jupyter".parse().expect("valid");
        let place = Layout::default().circuit(&key);
        registry.put(&place, Expected::Absent, b"garbage".to_vec(), None).await.expect("in-process");
        publisher(&registry).await.publish_closed(&key, Generation(1)).await.expect("published");
        assert_eq!(generation_of(&registry, &key).await, Generation(1));
    }
}
