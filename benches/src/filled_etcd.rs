//! An etcd with many circuits and no coordinator, for edges alone.
//!
//! Invariant: the coordinator's own publisher writes the circuits, and `meta` after all of them, so an edge finds what
//! it would find in a cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::publish::{Published, Publisher, Stand};
use entities::circuit::{Circuit, Versioned};
use entities::ids::{Epoch, Generation, InstallationId, Revision};
use entities::registry::Registry;
use entities::registry::layout::{DEFAULT_PREFIX, Layout};
use testkit::coordinator::StubCoordinator;
use testkit::etcd::{Etcd, Program};
use tokio::task::JoinSet;

use crate::circuits::{self, Mode};
use crate::edge_process::EdgeSettings;
use crate::process::port_range;

/// Circuits that are written at a time.
const WRITERS: usize = 64;

/// The options that say which etcd.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct EtcdChoice {
    /// Which etcd: the distribution's, or the one that `deploy/test` builds.
    #[arg(long, value_enum, default_value_t = EtcdName::Distribution)]
    etcd: EtcdName,
}

/// Which etcd, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EtcdName {
    /// The distribution's.
    Distribution,
    /// A current one.
    Current,
}

/// A running etcd whose circuits are all published.
#[derive(Debug)]
pub struct FilledEtcd {
    /// The program.
    pub etcd: Etcd,
    /// How long writing the circuits took.
    pub filled_in: Duration,
    coordinator: StubCoordinator,
    installation_id: InstallationId,
    epoch: Epoch,
}

// === impl EtcdChoice ===

impl EtcdChoice {
    /// The program.
    pub fn program(self) -> Program {
        match self.etcd {
            EtcdName::Distribution => Program::Distribution,
            EtcdName::Current => Program::Current,
        }
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self.etcd {
            EtcdName::Distribution => "etcd of the distribution",
            EtcdName::Current => "current etcd",
        }
    }
}

// === impl FilledEtcd ===

impl FilledEtcd {
    /// Starts an etcd and publishes subdomain circuits 0 to `count` - 1 there.
    pub async fn start(choice: EtcdChoice, count: usize, target: SocketAddr) -> Self {
        let etcd = Etcd::start(choice.program()).await;
        let installation_id = InstallationId::random();
        let (publisher, stand) = publisher_to(&etcd, installation_id).await;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for first in 0..WRITERS {
            let publisher = publisher.clone();
            tasks.spawn(async move {
                for number in (first..count).step_by(WRITERS) {
                    publish(&publisher, subdomain(number, target), Generation(1)).await;
                }
            });
        }
        tasks.join_all().await;
        let filled_in = start.elapsed();
        publisher.declare_complete(installation_id, stand).await.expect("etcd takes it");
        Self { etcd, filled_in, coordinator: StubCoordinator::start().await, installation_id, epoch: stand.epoch }
    }

    /// A publisher over a connection of its own.
    pub async fn publisher(&self) -> Publisher {
        publisher_to(&self.etcd, self.installation_id).await.0
    }

    /// The life that revisions count in.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Settings of an edge that follows it.
    pub fn edge(&self, name: &str, authority: &str, address: SocketAddr) -> EdgeSettings {
        EdgeSettings {
            name: name.to_owned(),
            authority: authority.to_owned(),
            address,
            coordinator: self.coordinator.url(),
            etcd: self.etcd.endpoint(),
            prefix: DEFAULT_PREFIX.to_owned(),
            log: None,
        }
    }
}

async fn publisher_to(etcd: &Etcd, installation_id: InstallationId) -> (Publisher, Stand) {
    let registry: Arc<dyn Registry> = Arc::new(etcd.registry());
    let publisher = Publisher::new(registry, Layout::default(), Duration::from_secs(60));
    let stand = publisher.take_stand(installation_id, None).await.expect("it is ours");
    (publisher, stand)
}

/// A circuit that is to be published.
pub fn subdomain(number: usize, target: SocketAddr) -> Circuit {
    circuits::circuit(Mode::Subdomain, number, port_range(), target)
}

/// Publishes a generation of a circuit that is newer than what etcd has.
pub async fn publish(publisher: &Publisher, circuit: Circuit, generation: Generation) -> Revision {
    match publisher.publish_open(Versioned { generation, circuit }).await.expect("etcd takes it") {
        Published::At(revision) => revision,
        overtaken @ Published::Overtaken { .. } => panic!("etcd has a newer circuit: {overtaken:?}"),
    }
}
