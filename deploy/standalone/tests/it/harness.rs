//! A proxy inside of the test, and a manager that talks to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use coordinator::config::Timing;
use entities::authority::{PortRange, Scheme};
use entities::clock::{SharedClock, SystemClock};
use entities::ids::Port;
use entities::registry::memory::MemoryRegistry;
use http::StatusCode;
use serde_json::{Value, json};
use standalone::data::Data;
use standalone::serve::{self, Config, Listeners};
use tempfile::TempDir;
use testkit::registry::LateRegistry;
use testkit::wait::{wait_until, within};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy that runs inside of the test.
pub(crate) struct Proxy {
    pub(crate) manager: Manager,
    pub(crate) registry: MemoryRegistry,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), serve::ServeError>>,
    _dir: TempDir,
}

/// How a test's proxy differs from the usual one.
pub(crate) struct Settings {
    pub(crate) ports: PortRange,
    pub(crate) drain_time: Duration,
    /// How long a change is on its way to the edge.
    pub(crate) registry_lag: Duration,
}

/// Talks to a coordinator as a manager does, and to the edge as clients do.
#[derive(Clone)]
pub(crate) struct Manager {
    pub(crate) api: SocketAddr,
    pub(crate) edge: SocketAddr,
    key: String,
    client: reqwest::Client,
}

/// A range of ports for circuits that no other test of this process gets.
pub(crate) fn port_range(count: u16) -> PortRange {
    /// Below the ports of outgoing connections, and below those that `testkit::ports` gives.
    static NEXT: AtomicU16 = AtomicU16::new(3_000);
    let first = NEXT.fetch_add(count, Ordering::Relaxed);
    assert!(first + count <= 12_000, "the tests take more ports than there are for them");
    PortRange::new(Port::try_from(first).unwrap(), Port::try_from(first + count - 1).unwrap()).unwrap()
}

/// The settings of a proxy whose data lies in `data`.
pub(crate) fn config(data: &Data, listeners: &Listeners, ports: PortRange, drain_time: Duration) -> Config {
    Config {
        database_url: data.database_url(),
        keys: data.keys().clone(),
        domain: "apps.localhost".parse().unwrap(),
        ports,
        port_address: IpAddr::from([127, 0, 0, 1]),
        port_host: "127.0.0.1".parse().unwrap(),
        public_scheme: Scheme::Http,
        public_port: Port::try_from(listeners.edge_address().unwrap().port()).unwrap(),
        drain_time,
        // A busy machine must not turn a 201 into a 202.
        timing: Timing { apply_timeout: Duration::from_secs(30), ..Timing::default() },
    }
}

// === impl Proxy ===

impl Proxy {
    /// Starts one with a range of its own of `ports` ports.
    pub(crate) async fn start(ports: u16) -> Self {
        let drain_time = Duration::from_secs(30);
        Self::start_with(Settings { ports: port_range(ports), drain_time, registry_lag: Duration::ZERO }).await
    }

    /// Starts one.
    pub(crate) async fn start_with(settings: Settings) -> Self {
        program::system::raise_descriptor_limit();
        let dir = tempfile::tempdir().unwrap();
        let data = Data::open(dir.path()).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Listeners::bind(any, any).unwrap();
        let config = config(&data, &listeners, settings.ports, settings.drain_time);
        let (api, edge) = (listeners.api_address().unwrap(), listeners.edge_address().unwrap());
        let manager = Manager::new(api, edge, &data.keys().manager);
        let registry = MemoryRegistry::new();
        let late = LateRegistry::new(registry.clone(), settings.registry_lag);
        let clock: SharedClock = Arc::new(SystemClock);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve::run(config, listeners, clock, Arc::new(late), stopped));
        manager.wait_until_ready().await;
        Self { manager, registry, stop, task, _dir: dir }
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        within("the end of the proxy", self.task).await.unwrap().unwrap();
    }
}

// === impl Manager ===

impl Manager {
    pub(crate) fn new(api: SocketAddr, edge: SocketAddr, key: &str) -> Self {
        Self { api, edge, key: key.to_owned(), client: testkit::client::keep_alive_client() }
    }

    /// Waits until an alive worker is known.
    pub(crate) async fn wait_until_ready(&self) {
        wait_until("a worker", async || {
            let request = self.client.get(format!("http://{}/status", self.api)).bearer_auth(&self.key);
            let Ok(reply) = request.send().await else { return false };
            reply.json::<Value>().await.is_ok_and(|status| status["workers_alive"] == 1)
        })
        .await;
    }

    /// Any call of the API; `Null` for an empty answer.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.try_call(method, path, body).await.unwrap()
    }

    /// The same, for a coordinator that may be killed meanwhile.
    pub(crate) async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("http://{}{path}", self.api)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let reply = request.timeout(Duration::from_secs(60)).send().await?;
        let status = reply.status();
        let text = reply.text().await?;
        let value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Ok((status, value))
    }

    /// Opens a circuit, which must answer `201`.
    pub(crate) async fn open(&self, body: Value) -> Value {
        let (status, circuit) = self.call("POST", "/v2/circuits", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{circuit}");
        circuit
    }

    /// Closes a circuit, which must answer `204`.
    pub(crate) async fn close(&self, key: &str) {
        let (status, body) = self.call("DELETE", &format!("/v2/circuits/{key}"), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    }
}

/// The body that opens a circuit to `targets`.
pub(crate) fn circuit(session: &str, service: &str, mode: &str, targets: &[SocketAddr]) -> Value {
    let targets: Vec<Value> =
        targets.iter().map(|target| json!({"host": target.ip().to_string(), "port": target.port()})).collect();
    json!({"session_id": session, "service": service, "frontend": {"mode": mode}, "targets": targets})
}

/// Host and port of a circuit's URL.
pub(crate) fn host_and_port(circuit: &Value) -> (String, u16) {
    let url: http::Uri = circuit["url"].as_str().unwrap().parse().unwrap();
    (url.authority().unwrap().to_string(), url.port_u16().unwrap())
}
