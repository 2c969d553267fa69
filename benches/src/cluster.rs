//! A whole cluster on this machine: PostgreSQL, etcd, a coordinator and two edges of one authority, each a process.
//!
//! Invariant: PostgreSQL and etcd make every write durable, as in production, and the parts log what they log there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use coordinator::store::{DatabaseConfig, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::etcd::Etcd;
use testkit::ports::free_port;
use testkit::postgres::Postgres;
use testkit::wait::wait_until;

use crate::edge_process::{EdgeProcess, EdgeSettings, WORKER_KEY, two_addresses};
use crate::filled_etcd::EtcdChoice;
use crate::process::{family_cpu_s, neighbour};
use crate::service::{Service, write_configuration};
use crate::stored;

const MANAGER_KEY: &str = "benches-manager-key-001";

/// What tickets and tokens are signed with.
const SIGNING_KEY: &str = "b3e1d2c40f5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Circuits that are stored at a time.
const WRITERS: usize = 8;

/// A cluster that runs.
#[derive(Debug)]
pub struct Cluster {
    /// The edges, ready.
    pub edges: Vec<EdgeProcess>,
    coordinator: Option<Service>,
    api: SocketAddr,
    database: String,
    etcd: Etcd,
    postgres: Postgres,
    dir: TempDir,
}

/// How long filling a cluster took.
#[derive(Debug, Clone, Copy)]
pub struct Filled {
    /// Writing the circuits into the store, while no coordinator ran.
    pub stored_in: Duration,
    /// From the start of the coordinator until the registry holds them all.
    pub published_in: Duration,
}

/// Processor time of each part so far, in seconds.
pub type CpuTimes = Vec<(&'static str, f64)>;

// === impl Cluster ===

impl Cluster {
    /// Starts everything, empty.
    pub async fn start(choice: EtcdChoice) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let postgres = Postgres::start();
        // Tests want neither.
        for setting in ["fsync = on", "log_statement = 'none'"] {
            postgres.run_sql("postgres", &format!("ALTER SYSTEM SET {setting}"));
        }
        postgres.run_sql("postgres", "SELECT pg_reload_conf()");
        let database = postgres.create_database();
        let etcd = Etcd::start(choice.program()).await;
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        write_coordinator_files(dir.path(), api, &database, &etcd.endpoint());
        let mut cluster = Self { edges: Vec::new(), coordinator: None, api, database, etcd, postgres, dir };
        cluster.start_coordinator().await;
        for (index, address) in two_addresses(free_port()).into_iter().enumerate() {
            let settings = EdgeSettings {
                name: format!("edge-{}", index + 1),
                authority: "main".to_owned(),
                address,
                coordinator: format!("http://{api}"),
                etcd: cluster.etcd.endpoint(),
                prefix: "/appproxy".to_owned(),
                log: None,
            };
            cluster.edges.push(EdgeProcess::start(cluster.dir.path(), &settings).await);
        }
        cluster.wait_alive().await;
        cluster
    }

    /// Stores circuits 0 to `count` - 1 while no coordinator runs, and lets one publish them.
    pub async fn fill(&mut self, count: usize, target: SocketAddr) -> Filled {
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.stop();
        }
        let store = Store::open(&DatabaseConfig::shared(&self.database, WRITERS as u32)).await.expect("it opens");
        let start = Instant::now();
        stored::fill_store(&store, WRITERS, count, target).await;
        let stored_in = start.elapsed();
        drop(store);
        let published_in = self.start_coordinator().await;
        for edge in &self.edges {
            wait_until("the circuits at an edge", async || edge.metric("appproxy_edge_circuits").await >= count as f64)
                .await;
        }
        self.wait_alive().await;
        Filled { stored_in, published_in }
    }

    /// Opens a circuit and tells how long it took until the `201` was there.
    pub async fn open(&self, client: &reqwest::Client, session: &str, target: SocketAddr) -> Duration {
        let body = json!({
            "session_id": session, "service": "app", "frontend": {"mode": "subdomain"},
            "targets": [{"host": target.ip().to_string(), "port": target.port()}],
            "access": {"public": true},
        });
        let request = client.post(format!("http://{}/v2/circuits", self.api)).bearer_auth(MANAGER_KEY).json(&body);
        let start = Instant::now();
        let reply = request.send().await.expect("the coordinator answers");
        let (status, text) = (reply.status(), reply.text().await.expect("the whole answer"));
        let took = start.elapsed();
        assert_eq!(status, reqwest::StatusCode::CREATED, "{text}");
        took
    }

    /// Processor time so far, of each part with its children.
    pub fn cpu_times(&self) -> CpuTimes {
        let mut times = vec![("coordinator", self.coordinator.as_ref().expect("it runs").process().cpu_s())];
        let names = ["edge 1", "edge 2"];
        times.extend(names.into_iter().zip(&self.edges).map(|(name, edge)| (name, edge.process().cpu_s())));
        times.push(("etcd", family_cpu_s(self.etcd.process_id())));
        times.push(("PostgreSQL", family_cpu_s(self.postgres.process_id())));
        times
    }

    /// The folder that everything of it is in, but for the data of PostgreSQL and etcd, which are beside it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    async fn start_coordinator(&mut self) -> Duration {
        let file = self.dir.path().join("coordinator.toml");
        let text = std::fs::read_to_string(file).expect("it was written");
        let started = Instant::now();
        let mut service = Service::start("appproxy-coordinator", self.dir.path(), "coordinator", &text);
        let ready_after = service.wait_ready(&format!("http://{}", self.api), started).await;
        self.coordinator = Some(service);
        ready_after
    }

    /// Until the coordinator waits for both edges.
    async fn wait_alive(&self) {
        let client = testkit::client::keep_alive_client();
        wait_until("two edges that are alive", async || {
            let request = client.get(format!("http://{}/v2/workers", self.api)).bearer_auth(MANAGER_KEY);
            let text = request.send().await.expect("it answers").text().await.expect("the whole answer");
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            answer.to_string().matches("\"ALIVE\"").count() == self.edges.len()
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Whoever writes to the others goes first, so that nobody waits for what is gone.
        self.coordinator = None;
        self.edges.clear();
    }
}

/// Configuration, keys, and the schema.
fn write_coordinator_files(dir: &Path, api: SocketAddr, database: &str, etcd: &str) {
    let keys = dir.join("keys");
    std::fs::write(&keys, format!("manager {MANAGER_KEY}\nworker {WORKER_KEY}\n")).expect("written");
    let text = format!(
        "[api]\nbind = \"{api}\"\nkeys_file = \"{}\"\n[access]\nsigning_keys = \"{SIGNING_KEY}\"\n[database]\nurl = \"{database}\"\n\
         [registry]\nendpoints = [\"{etcd}\"]\n",
        keys.display()
    );
    let file = write_configuration(dir, "coordinator", &text);
    let mut command = Command::new(neighbour("appproxy-coordinator"));
    let output = command.args(["migrate", "up", "--config"]).arg(file).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
