//! A whole cluster of real processes: PostgreSQL, etcd, a coordinator, edges. For tests and measurements.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | [`process`] | one program of ours as a process that can be killed, held and started again |
//! | [`edge`] | an edge, and its clients |
//! | [`config`] | the configuration files of a cluster, on free ports and in a folder of its own |
//!
//! # Invariants
//!
//! * Nothing of a cluster outlives its handle.
//! * The programs are those that people start, configured by the files that people write; nothing is linked in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test peer that cannot work must fail its test"
)]

pub mod config;
pub mod edge;
pub mod process;

use entities::registry::etcd::EtcdRegistry;
use entities::registry::layout::Layout;
use tempfile::TempDir;
use testkit::etcd::{self, Etcd, Program};
use testkit::manager::Manager;
use testkit::postgres::Postgres;
use testkit::wait::wait_until;

use config::Files;
use edge::Edge;
use process::Process;

/// What a cluster is made of.
#[derive(Debug)]
pub struct Options {
    /// Which etcd.
    pub etcd: Program,
    /// How it is started.
    pub etcd_options: etcd::Options,
    /// How many edges, all of one authority.
    pub edges: u8,
    /// How many ports circuits may get.
    pub ports: u16,
    /// Whether PostgreSQL is one that no other test uses, so that it can be killed.
    pub has_own_postgres: bool,
    /// Variables of the coordinator, over its file.
    pub coordinator: Vec<(&'static str, String)>,
    /// Variables of every edge, over its file.
    pub edge: Vec<(&'static str, String)>,
}

/// Where the store is.
#[derive(Debug)]
pub enum Database {
    /// In a server that other tests use too.
    Shared(String),
    /// In a server of its own.
    Own {
        /// The server.
        server: Box<Postgres>,
        /// The address of the database in it.
        url: String,
    },
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Opens and closes circuits.
    pub manager: Manager,
    /// The edges, at 127.0.0.1, 127.0.0.2 and so on.
    pub edges: Vec<Edge>,
    /// The coordinator.
    pub coordinator: Process,
    /// The registry.
    pub etcd: Etcd,
    /// The store.
    pub database: Database,
    /// Configuration, keys, logs.
    pub files: Files,
    _folder: TempDir,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            etcd: Program::Distribution,
            etcd_options: etcd::Options::default(),
            edges: 2,
            ports: 0,
            has_own_postgres: false,
            coordinator: Vec::new(),
            edge: Vec::new(),
        }
    }
}

// === impl Database ===

impl Database {
    /// Its address, password included.
    pub fn url(&self) -> String {
        match self {
            Self::Shared(url) | Self::Own { url, .. } => url.clone(),
        }
    }

    /// The server, which must be the cluster's own.
    pub fn server(&mut self) -> &mut Postgres {
        match self {
            Self::Own { server, .. } => server,
            Self::Shared(_) => panic!("other tests use that server"),
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Two edges, etcd of the distribution.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts one, and waits until every edge is alive.
    pub async fn start_with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let etcd = Etcd::start_with(options.etcd, options.etcd_options.clone()).await;
        let database = match options.has_own_postgres {
            true => {
                let server = Box::new(Postgres::start());
                Database::Own { url: server.create_database(), server }
            }
            false => Database::Shared(Postgres::shared().create_database()),
        };
        let files = Files::write(folder.path(), &database.url(), &etcd.endpoint(), options.ports);
        let mut coordinator = files.coordinator(&options.coordinator);
        coordinator.run(&["migrate", "up", "--config", "coordinator.toml"]);
        coordinator.start();
        let mut edges: Vec<Edge> = (1..=options.edges).map(|number| files.edge(number, &options.edge)).collect();
        for edge in &mut edges {
            edge.process.start();
        }
        let manager = files.manager();
        let cluster = Self { manager, edges, coordinator, etcd, database, files, _folder: folder };
        cluster.wait_until_alive().await;
        cluster
    }

    /// Waits until the coordinator takes every edge for alive, and every edge what it serves for confirmed.
    pub async fn wait_until_alive(&self) {
        self.manager.wait_for_workers(self.edges.len()).await;
        for edge in &self.edges {
            wait_until(&format!("{} to be fresh", edge.id), async || edge.stale().await == Some(None)).await;
        }
    }

    /// The registry, as an administrator sees it.
    pub fn registry(&self) -> EtcdRegistry {
        self.etcd.registry()
    }

    /// Where keys lie in it.
    pub fn layout(&self) -> Layout {
        Layout::default()
    }
}
