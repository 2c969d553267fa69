//! An edge in this process, with a registry that the test fills by hand.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge::{Config, Http1Engine, Listeners, RunError};
use entities::access::Access;
use entities::authority::{Authority, DomainFrontends, PortFrontends, Scheme};
use entities::balance::LoadBalancing;
use entities::circuit::{Backend, Circuit, Protocol, Traffic, Versioned};
use entities::frontend::Frontend;
use entities::ids::{CircuitId, CircuitKey, Epoch, Generation, InstallationId, Port, Revision};
use entities::registry::layout::{CircuitState, Layout, Meta, encode_public_key};
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Expected, Registry as _, Swap};
use entities::target::Target;
use entities::token::SigningKey;
use entities::worker::SyncReport;
use testkit::client::client;
use testkit::coordinator::StubCoordinator;
use testkit::registry::SwitchedRegistry;
use testkit::wait::{wait_until, within};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) const WORKER_KEY: &str = "worker-key-of-the-test";

/// A running edge and everything around it.
pub(crate) struct TestEdge {
    pub(crate) address: SocketAddr,
    /// What the test writes.
    pub(crate) registry: MemoryRegistry,
    /// Through which the edge sees it.
    pub(crate) line: SwitchedRegistry,
    pub(crate) layout: Layout,
    pub(crate) coordinator: StubCoordinator,
    pub(crate) epoch: Epoch,
    pub(crate) installation_id: InstallationId,
    generations: Mutex<HashMap<CircuitKey, u64>>,
    shutdown: watch::Sender<bool>,
    running: JoinHandle<Result<(), RunError>>,
}

impl TestEdge {
    /// An edge with a complete and empty registry.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same, with settings changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let edge = Self::start_incomplete(change).await;
        edge.put_meta(edge.epoch, true).await;
        edge.wait_applied().await;
        edge
    }

    /// An edge whose registry says nothing yet.
    pub(crate) async fn start_incomplete(change: impl FnOnce(&mut Config)) -> Self {
        let registry = MemoryRegistry::new();
        let line = SwitchedRegistry::new(registry.clone());
        Self::start_on(registry, line, change).await
    }

    /// Waits until no connection is open but the one that asks.
    pub(crate) async fn wait_for_no_connection(&self) {
        wait_until("no connection", async || self.metric("appproxy_edge_connections_open").await <= 1.0).await;
    }

    /// Stops the edge and starts another one with the same registry and coordinator's memory.
    pub(crate) async fn restart(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { registry, line, epoch, installation_id, generations, shutdown, running, .. } = self;
        shutdown.send_replace(true);
        within("the end of the edge", running).await.expect("no panic").expect("no error");
        let edge = Self::start_on(registry, line, change).await;
        Self { epoch, installation_id, generations, ..edge }
    }

    async fn start_on(registry: MemoryRegistry, line: SwitchedRegistry, change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let coordinator = StubCoordinator::start().await;
        let mut config = Config::new(
            "w1".parse().expect("valid"),
            authority(address.port()),
            format!("http://{address}"),
            coordinator.url(),
            WORKER_KEY.to_owned(),
        );
        config.port_address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        config.limits.connect = Duration::from_secs(2);
        config.http1 = carried_by();
        change(&mut config);
        let (shutdown, must_stop) = watch::channel(false);
        let layout = Layout::default();
        let running = tokio::spawn(edge::run(
            config,
            Arc::new(line.clone()),
            layout.clone(),
            Listeners { traffic: listener },
            must_stop,
        ));
        Self {
            address,
            registry,
            line,
            layout,
            coordinator,
            epoch: Epoch::random(),
            installation_id: InstallationId::random(),
            generations: Mutex::default(),
            shutdown,
            running,
        }
    }

    /// `http://<host>:<traffic port><path>`.
    pub(crate) fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// Asks for `path` at `host` of the traffic port.
    pub(crate) async fn get(&self, host: &str, path: &str) -> reqwest::Response {
        client().get(self.url(host, path)).send().await.expect("the edge answers")
    }

    /// Writes a key, whatever stands there.
    pub(crate) async fn put(&self, key: &str, value: Vec<u8>) -> Revision {
        let (entry, _) = self.registry.get(key).await.expect("in memory");
        let expected = entry.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        match self.registry.put(key, expected, value, None).await.expect("in memory") {
            Swap::Done(revision) => revision,
            Swap::Conflict => panic!("somebody else writes {key}"),
        }
    }

    pub(crate) async fn put_meta(&self, epoch: Epoch, complete: bool) -> Revision {
        let meta = Meta { installation_id: self.installation_id, epoch, complete };
        self.put(&self.layout.meta(), meta.encode().expect("fits")).await
    }

    /// Publishes the public half of a key, as coordinators do, and waits until it is accepted.
    pub(crate) async fn accept_key(&self, key: &SigningKey) {
        let public = key.public();
        self.put(&self.layout.key(&public.id()), encode_public_key(&public).expect("fits")).await;
        self.wait_applied().await;
    }

    /// Takes such a key away again.
    pub(crate) async fn withdraw_key(&self, key: &SigningKey) {
        self.delete_key(&self.layout.key(&key.public().id())).await;
        self.wait_applied().await;
    }

    /// Writes a circuit under its next generation and waits until it is applied.
    pub(crate) async fn serve(&self, circuit: &Circuit) {
        self.publish(circuit).await;
        self.wait_applied().await;
    }

    /// Writes a circuit under its next generation.
    pub(crate) async fn publish(&self, circuit: &Circuit) -> Revision {
        let generation = self.next_generation(&circuit.key);
        self.publish_as(circuit, generation).await
    }

    /// Writes a circuit under this generation.
    pub(crate) async fn publish_as(&self, circuit: &Circuit, generation: Generation) -> Revision {
        let state = CircuitState::Open(Box::new(Versioned { generation, circuit: circuit.clone() }));
        self.put(&self.layout.circuit(&circuit.key), state.encode().expect("fits")).await
    }

    /// Closes a circuit and waits until that is applied.
    pub(crate) async fn close(&self, circuit: &Circuit) {
        self.publish_closed(circuit).await;
        self.wait_applied().await;
    }

    /// Closes a circuit.
    pub(crate) async fn publish_closed(&self, circuit: &Circuit) -> Revision {
        let state = CircuitState::Closed { generation: self.next_generation(&circuit.key) };
        self.put(&self.layout.circuit(&circuit.key), state.encode().expect("fits")).await
    }

    /// Deletes a circuit's key without a trace.
    pub(crate) async fn delete(&self, circuit: &Circuit) {
        self.delete_key(&self.layout.circuit(&circuit.key)).await;
    }

    async fn delete_key(&self, key: &str) {
        let (entry, _) = self.registry.get(key).await.expect("in memory");
        self.registry.delete(key, entry.expect("published").revision).await.expect("in memory");
    }

    /// The edge follows `other` from now on, and the test writes it.
    pub(crate) fn exchange_registry(&mut self, other: MemoryRegistry) {
        self.line.exchange(other.clone());
        self.registry = other;
    }

    /// What readiness says about being stale; null if the edge is not.
    pub(crate) async fn stale(&self) -> serde_json::Value {
        let response = self.get("127.0.0.1", "/health/readyz").await;
        assert_eq!(response.status(), 200);
        response.json::<serde_json::Value>().await.expect("JSON")["stale"].take()
    }

    fn next_generation(&self, key: &CircuitKey) -> Generation {
        let mut generations = self.generations.lock().expect("no test thread panics with it");
        let generation = generations.entry(key.clone()).or_default();
        *generation += 1;
        Generation(*generation)
    }

    /// Waits, as a coordinator does, until everything that the registry holds now is applied.
    pub(crate) async fn wait_applied(&self) -> SyncReport {
        let (_, revision) = self.registry.get("").await.expect("in memory");
        let query = format!("/v2/sync?epoch={}&revision={revision}&timeout_ms=10000", self.epoch);
        let report = self.sync(&query).await;
        assert!(report.has_applied(self.epoch, revision), "not applied in time: {report:?}");
        report
    }

    /// Asks `/v2/sync`.
    pub(crate) async fn sync(&self, path_and_query: &str) -> SyncReport {
        let request = client().get(self.url("127.0.0.1", path_and_query)).bearer_auth(WORKER_KEY);
        let response = request.send().await.expect("the edge answers");
        assert_eq!(response.status(), 200);
        response.json().await.expect("a report")
    }

    /// The value of one metric, labels included in its name.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("127.0.0.1", "/metrics").await.text().await.expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
    }

    /// Tells the edge to stop.
    pub(crate) fn begin_stop(&self) {
        self.shutdown.send_replace(true);
    }

    /// Drops the edge in the middle of its work.
    pub(crate) async fn cancel(self) {
        self.running.abort();
        let ended = within("the end of the edge", self.running).await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }

    /// Stops the edge and waits until it has.
    pub(crate) async fn stop(self) -> StubCoordinator {
        self.begin_stop();
        within("the end of the edge", self.running).await.expect("no panic").expect("no error");
        self.coordinator
    }
}

fn authority(port: u16) -> Authority {
    Authority {
        name: "main".parse().expect("valid"),
        subdomains: Some(DomainFrontends {
            domain: "apps.test".parse().expect("valid"),
            public_scheme: Scheme::Http,
            public_port: Port::try_from(port).expect("not 0"),
        }),
        ports: Some(PortFrontends {
            host: "127.0.0.1".parse().expect("valid"),
            ports: "1024-65535".parse().expect("valid"),
            public_scheme: Scheme::Http,
        }),
    }
}

/// A circuit at `<name>.apps.test`.
pub(crate) fn by_host(name: &str, targets: Vec<Target>) -> Circuit {
    circuit(
        name,
        Frontend::Subdomain {
            subdomain: name.parse().expect("valid"),
            host: format!("{name}.apps.test").parse().expect("valid"),
        },
        targets,
    )
}

/// A circuit at a port of its own.
pub(crate) fn by_port(name: &str, port: u16, targets: Vec<Target>) -> Circuit {
    circuit(name, Frontend::Port { port: Port::try_from(port).expect("not 0") }, targets)
}

fn circuit(name: &str, frontend: Frontend, targets: Vec<Target>) -> Circuit {
    Circuit {
        id: CircuitId::random(),
        key: format!("{name}:web").parse().expect("valid"),
        authority: "main".parse().expect("valid"),
        frontend,
        protocol: Protocol::Http,
        backend: Backend::Http,
        targets,
        load_balancing: LoadBalancing::default(),
        access: Access::for_everybody(),
        access_generation: Generation(1),
        traffic: Traffic::default(),
    }
}

/// The loopback address with this port.
pub(crate) fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The origin's name in an answer that an origin gave.
pub(crate) async fn name_of(response: reqwest::Response) -> String {
    assert_eq!(response.status(), 200);
    let echo: serde_json::Value = response.json().await.expect("the origin's echo");
    echo["name"].as_str().expect("a name").to_owned()
}

/// What carries plain requests of HTTP/1 in this run: every promise holds with either engine, and the whole suite runs with each.
pub(crate) fn carried_by() -> Http1Engine {
    match std::env::var("APPPROXY_TEST_HTTP1").as_deref() {
        Ok("exchange") => Http1Engine::Exchange,
        _ => Http1Engine::Pingora,
    }
}
