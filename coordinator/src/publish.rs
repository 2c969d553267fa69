//! Store → registry: writes what edges must serve.
//!
//! Invariant: a key's value is replaced only by one of a higher generation, by compare-and-swap on what was read
//! before, so a slow writer can neither roll a circuit back nor bring a closed one back to life.

mod stored;

use std::sync::Arc;
use std::time::Duration;

use entities::circuit::Versioned;
use entities::ids::{CircuitKey, Epoch, Generation, InstallationId, Revision};
use entities::registry::layout::{CircuitState, EnvelopeError, Layout, Meta};
use entities::registry::{Expected, Registry, RegistryError, Swap};
use tokio::time::Instant;

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
}

impl Publisher {
    /// A publisher that gives up on a contended key after `give_up_after`.
    pub fn new(registry: Arc<dyn Registry>, layout: Layout, give_up_after: Duration) -> Self {
        Self { registry, layout, give_up_after }
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
        loop {
            let (found, _) = self.registry.get(&place).await?;
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
            match self.registry.put(&place, expected, value.clone(), None).await? {
                Swap::Done(revision) => return Ok(Published::At(revision)),
                Swap::Conflict if started.elapsed() >= self.give_up_after => {
                    return Err(PublishError::Contended(self.give_up_after));
                }
                Swap::Conflict => {}
            }
        }
    }

    /// Whose registry it says it is, and what wrote that.
    pub async fn meta(&self) -> Result<Option<(Revision, Option<Meta>)>, PublishError> {
        let (found, _) = self.registry.get(&self.layout.meta()).await?;
        Ok(found.map(|entry| (entry.revision, Meta::decode(&entry.value).ok())))
    }

    /// Says whose registry it is and that every circuit of the store is in it. `seen` wrote the meta key before the
    /// circuits were published; `None` if something else has changed it since, so that nobody knows what is in there.
    ///
    /// A registry without a meta key, or of another installation, begins a new epoch.
    pub async fn declare_complete(
        &self,
        installation_id: InstallationId,
        seen: Option<Revision>,
    ) -> Result<Option<Epoch>, PublishError> {
        let found = self.meta().await?;
        let ours = found.and_then(|(_, meta)| meta).filter(|meta| meta.installation_id == installation_id);
        if let Some(meta) = ours.filter(|meta| meta.complete) {
            return Ok(Some(meta.epoch));
        }
        if found.map(|(revision, _)| revision) != seen {
            return Ok(None);
        }
        let epoch = ours.map_or_else(Epoch::random, |meta| meta.epoch);
        let value = Meta { installation_id, epoch, complete: true }.encode()?;
        let expected = seen.map_or(Expected::Absent, Expected::At);
        match self.registry.put(&self.layout.meta(), expected, value, None).await? {
            Swap::Done(_) => Ok(Some(epoch)),
            Swap::Conflict => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use entities::registry::memory::MemoryRegistry;

    use super::*;

    fn publisher(registry: &MemoryRegistry) -> Publisher {
        Publisher::new(Arc::new(registry.clone()), Layout::default(), Duration::from_secs(1))
    }

    async fn generation_of(registry: &MemoryRegistry, key: &CircuitKey) -> Generation {
        let (entry, _) = registry.get(&Layout::default().circuit(key)).await.expect("in-process");
        CircuitState::decode(&entry.expect("published").value).expect("our own").generation()
    }

    #[tokio::test]
    async fn a_slow_writer_cannot_roll_a_key_back() {
        let registry = MemoryRegistry::new();
        let publisher = publisher(&registry);
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
        publisher(&registry).publish_closed(&key, Generation(1)).await.expect("published");
        assert_eq!(generation_of(&registry, &key).await, Generation(1));
    }

    #[tokio::test]
    async fn another_installations_registry_begins_a_new_epoch() {
        let registry = MemoryRegistry::new();
        let publisher = publisher(&registry);
        let declare = async |installation_id| {
            let seen = publisher.meta().await.expect("in-process").map(|(revision, _)| revision);
            publisher.declare_complete(installation_id, seen).await.expect("in-process").expect("nobody else writes")
        };
        let first = declare(InstallationId::random()).await;
        let ours = InstallationId::random();
        let second = declare(ours).await;
        assert_ne!(first, second);
        assert_eq!(declare(ours).await, second, "and then it stays");
    }

    /// Edges would take the absence of circuits for their end.
    #[tokio::test]
    async fn a_registry_that_was_emptied_meanwhile_is_not_declared_complete() {
        let registry = MemoryRegistry::new();
        let publisher = publisher(&registry);
        let ours = InstallationId::random();
        publisher.declare_complete(ours, None).await.expect("in-process").expect("nobody else writes");
        let (seen, _) = publisher.meta().await.expect("in-process").expect("just written");
        registry.delete(&Layout::default().meta(), seen).await.expect("in-process");
        assert_eq!(publisher.declare_complete(ours, Some(seen)).await.expect("in-process"), None);
        assert_eq!(publisher.meta().await.expect("in-process"), None);
    }
}
