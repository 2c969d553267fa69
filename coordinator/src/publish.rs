//! Store → registry: writes what edges must serve.
//!
//! Invariant: a key's value is replaced only by one of a higher generation, by compare-and-swap on what was read
//! before, so a slow writer can neither roll a circuit back nor bring a closed one back to life.

use std::sync::Arc;
use std::time::Duration;

use entities::circuit::Versioned;
use entities::ids::{CircuitKey, Epoch, Generation, InstallationId, Revision};
use entities::registry::layout::{CircuitState, EnvelopeError, Layout, Meta};
use entities::registry::{Expected, Registry, RegistryError, Swap};
use tokio::time::Instant;

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

    /// Publishes an open circuit; see [`Publisher::publish`].
    pub async fn publish_open(&self, circuit: Versioned) -> Result<Revision, PublishError> {
        let key = circuit.circuit.key.clone();
        self.publish(&key, &CircuitState::Open(Box::new(circuit))).await
    }

    /// Publishes that a circuit is closed; see [`Publisher::publish`].
    pub async fn publish_closed(&self, key: &CircuitKey, generation: Generation) -> Result<Revision, PublishError> {
        self.publish(key, &CircuitState::Closed { generation }).await
    }

    /// Brings `key` to at least the generation of `state`; answers the revision from which on edges know it.
    async fn publish(&self, key: &CircuitKey, state: &CircuitState) -> Result<Revision, PublishError> {
        let place = self.layout.circuit(key);
        let value = state.encode()?;
        let started = Instant::now();
        loop {
            let (found, _) = self.registry.get(&place).await?;
            let expected = match &found {
                None => Expected::Absent,
                Some(entry) => {
                    // A value that does not read belongs to nobody: it is replaced.
                    let known = CircuitState::decode(&entry.value).ok();
                    if known.is_some_and(|known| known.generation() >= state.generation()) {
                        return Ok(entry.revision);
                    }
                    Expected::At(entry.revision)
                }
            };
            match self.registry.put(&place, expected, value.clone(), None).await? {
                Swap::Done(revision) => return Ok(revision),
                Swap::Conflict if started.elapsed() >= self.give_up_after => {
                    return Err(PublishError::Contended(self.give_up_after));
                }
                Swap::Conflict => {}
            }
        }
    }

    /// Says whose registry it is and that every circuit of the store is in it.
    ///
    /// A registry without a meta key, or of another installation, begins a new epoch.
    pub async fn declare_complete(&self, installation_id: InstallationId) -> Result<Epoch, PublishError> {
        let place = self.layout.meta();
        let started = Instant::now();
        loop {
            let (found, _) = self.registry.get(&place).await?;
            let known = found.as_ref().and_then(|entry| Meta::decode(&entry.value).ok());
            let epoch = match known {
                Some(meta) if meta.installation_id == installation_id => {
                    if meta.complete {
                        return Ok(meta.epoch);
                    }
                    meta.epoch
                }
                Some(_) | None => Epoch::random(),
            };
            let value = Meta { installation_id, epoch, complete: true }.encode()?;
            let expected = found.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
            match self.registry.put(&place, expected, value, None).await? {
                Swap::Done(_) => return Ok(epoch),
                Swap::Conflict if started.elapsed() >= self.give_up_after => {
                    return Err(PublishError::Contended(self.give_up_after));
                }
                Swap::Conflict => {}
            }
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
        assert_eq!(late, newest, "the revision that edges must have is the newer one's");
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
        let first = publisher.declare_complete(InstallationId::random()).await.expect("declared");
        let ours = InstallationId::random();
        let second = publisher.declare_complete(ours).await.expect("declared");
        assert_ne!(first, second);
        assert_eq!(publisher.declare_complete(ours).await.expect("declared"), second, "and then it stays");
    }
}
