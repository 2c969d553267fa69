//! An edge in this process, with a registry to write to and a coordinator that says yes to everything.
//!
//! Invariant: `applied` is what the edge itself says over `/v2/sync`, as a coordinator asks it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use edge::{Config, Listeners};
use entities::circuit::{Circuit, Versioned};
use entities::ids::{Epoch, Generation, InstallationId, Revision};
use entities::registry::layout::{CircuitState, Layout, Meta};
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Expected, Registry as _, Swap};
use testkit::coordinator::StubCoordinator;
use tokio::sync::watch;

use crate::asker::Asker;
use crate::circuits;
use crate::process::{PORT_ADDRESS, port_range};

const WORKER_KEY: &str = "worker-key";

/// A registry that is complete, before an edge follows it.
#[derive(Debug)]
pub struct FilledRegistry {
    registry: MemoryRegistry,
    layout: Layout,
    epoch: Epoch,
}

/// A running edge.
#[derive(Debug)]
pub struct InProcessEdge {
    /// Its traffic port.
    pub address: SocketAddr,
    filled: FilledRegistry,
    asker: Asker,
    /// Dropping either would end the edge.
    _coordinator: StubCoordinator,
    _shutdown: watch::Sender<bool>,
}

// === impl FilledRegistry ===

impl FilledRegistry {
    /// A complete registry that holds `states`.
    pub async fn new(states: impl IntoIterator<Item = CircuitState>) -> Self {
        let filled = Self { registry: MemoryRegistry::new(), layout: Layout::default(), epoch: Epoch::random() };
        for state in states {
            filled.put(&state).await;
        }
        let meta = Meta { installation_id: InstallationId::random(), epoch: filled.epoch, complete: true };
        filled.put_new(&filled.layout.meta(), meta.encode().expect("fits")).await;
        filled
    }

    /// Writes a circuit that is not there yet.
    pub async fn put(&self, state: &CircuitState) -> Revision {
        let CircuitState::Open(versioned) = state else { panic!("only open circuits are put") };
        self.put_new(&self.layout.circuit(&versioned.circuit.key), state.encode().expect("fits")).await
    }

    async fn put_new(&self, key: &str, value: Vec<u8>) -> Revision {
        match self.registry.put(key, Expected::Absent, value, None).await.expect("in memory") {
            Swap::Done(revision) => revision,
            Swap::Conflict => panic!("{key} is there already"),
        }
    }
}

// === impl InProcessEdge ===

impl InProcessEdge {
    /// Starts an edge and waits until it has applied everything.
    pub async fn start(filled: FilledRegistry) -> Self {
        program::system::raise_descriptor_limit();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let coordinator = StubCoordinator::start().await;
        let mut config = Config::new(
            "w1".parse().expect("valid"),
            circuits::authority(address.port(), port_range()),
            format!("http://{address}"),
            coordinator.url(),
            WORKER_KEY.to_owned(),
        );
        config.port_address = PORT_ADDRESS;
        let (shutdown, must_stop) = watch::channel(false);
        let registry = Arc::new(filled.registry.clone());
        tokio::spawn(edge::run(config, registry, filled.layout.clone(), Listeners { traffic: listener }, must_stop));
        let asker = Asker::connect(address, WORKER_KEY).await;
        let (_, revision) = filled.registry.get(&filled.layout.meta()).await.expect("in memory");
        let mut edge = Self { address, filled, asker, _coordinator: coordinator, _shutdown: shutdown };
        edge.wait_applied(revision).await;
        edge
    }

    /// Writes a circuit that is not there yet.
    pub async fn put(&self, state: &CircuitState) -> Revision {
        self.filled.put(state).await
    }

    /// Writes another generation of a circuit that is there.
    pub async fn change(&self, circuit: Circuit, generation: u64) -> Revision {
        let FilledRegistry { registry, layout, .. } = &self.filled;
        let key = layout.circuit(&circuit.key);
        let generation = Generation(generation);
        let state = CircuitState::Open(Box::new(Versioned { generation, circuit }));
        let (entry, _) = registry.get(&key).await.expect("in memory");
        let expected = Expected::At(entry.expect("it is there").revision);
        match registry.put(&key, expected, state.encode().expect("fits"), None).await.expect("in memory") {
            Swap::Done(revision) => revision,
            Swap::Conflict => panic!("{key} was written by somebody else"),
        }
    }

    /// Waits until the edge says that it has applied `revision`, and refused nothing.
    pub async fn wait_applied(&mut self, revision: Revision) {
        self.asker.wait_applied(self.filled.epoch, revision).await;
    }
}
