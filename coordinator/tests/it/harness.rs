//! A coordinator inside of the test, and callers of its API.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use coordinator::config::api::{ApiConfig, ApiLimits};
use coordinator::config::{Config, Timing};
use coordinator::keys::{ApiKey, Scope};
use coordinator::signing::SigningKeys;
use coordinator::store::{DatabaseConfig, Store};
use coordinator::{Listeners, RunError};
use entities::ids::{CircuitKey, Revision};
use entities::registry::layout::{CircuitState, Layout};
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Entry, Expected, Registry, Swap};
use entities::token::SigningKey;
use http::{HeaderMap, Method, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::clock::ManualClock;
use testkit::postgres::Postgres;
use testkit::wait::{wait_until, within};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) const MANAGER_KEY: &str = "manager-key-4f1c";
pub(crate) const READ_KEY: &str = "read-key-77ab";
/// Of the authority `main`.
pub(crate) const WORKER_KEY: &str = "worker-key-main-9d20";
/// Of the authority `other`.
pub(crate) const OTHER_WORKER_KEY: &str = "worker-key-other-e3b8";

const KEYS: [&str; 4] = [MANAGER_KEY, READ_KEY, WORKER_KEY, OTHER_WORKER_KEY];

/// What stays when a coordinator ends.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) registry: MemoryRegistry,
    pub(crate) clock: ManualClock,
    database: Database,
}

/// Which database the tests of this binary use.
#[derive(Clone)]
enum Database {
    Sqlite(Arc<TempDir>),
    Postgres { url: String },
}

/// A coordinator that runs inside of the test.
pub(crate) struct Coordinator {
    pub(crate) ground: Ground,
    pub(crate) manager: Caller,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), RunError>>,
}

/// Calls the API with one key, or without.
#[derive(Clone)]
pub(crate) struct Caller {
    base: String,
    key: Option<&'static str>,
    client: reqwest::Client,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// `Null` if it is not JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

/// Spans with which no test runs into one by chance: on a busy machine 2 s are not much.
pub(crate) fn patient() -> Timing {
    Timing { apply_timeout: Duration::from_secs(10), ..Timing::default() }
}

/// The same, but reconcile looks all the time.
pub(crate) fn repairing() -> Timing {
    Timing { reconcile_interval: Duration::from_millis(20), ..patient() }
}

/// For tests in which a worker misses the time: it is then over soon.
pub(crate) fn hurried() -> Timing {
    Timing {
        apply_timeout: Duration::from_millis(500),
        reconcile_interval: Duration::from_millis(20),
        ..Timing::default()
    }
}

/// The keys that a coordinator knows unless a test says otherwise.
pub(crate) fn keys() -> Vec<ApiKey> {
    let worker = |authority: &str| Scope::Worker { authorities: vec![authority.parse().unwrap()] };
    vec![
        ApiKey::new(MANAGER_KEY, Scope::Manager),
        ApiKey::new(READ_KEY, Scope::Read),
        ApiKey::new(WORKER_KEY, worker("main")),
        ApiKey::new(OTHER_WORKER_KEY, worker("other")),
    ]
}

/// What the coordinators of a test sign with.
pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_seed([0x5e; 32])
}

pub(crate) fn signing_keys() -> SigningKeys {
    SigningKeys::only(signing_key())
}

/// The smallest body that opens a circuit with a target for everybody.
pub(crate) fn circuit(session: &str, service: &str) -> Value {
    json!({"session_id": session, "service": service, "targets": [{"host": "10.0.0.5", "port": 8888}],
        "access": {"public": true}})
}

/// The same on a port of its own: this one, or any.
pub(crate) fn port_circuit(session: &str, service: &str, port: Option<u16>) -> Value {
    let mut body = circuit(session, service);
    body["frontend"] = json!({"mode": "port"});
    if let Some(port) = port {
        body["frontend"]["port"] = port.into();
    }
    body
}

/// The same under this subdomain.
pub(crate) fn named_circuit(session: &str, service: &str, subdomain: &str) -> Value {
    let mut body = circuit(session, service);
    body["frontend"] = json!({"mode": "subdomain", "subdomain": subdomain});
    body
}

// === impl Database ===

impl Database {
    /// The same tests are built into two binaries, one for each database.
    fn create() -> Self {
        match env!("CARGO_CRATE_NAME") {
            "postgres" => Self::Postgres { url: Postgres::shared().create_database() },
            _ => Self::Sqlite(Arc::new(tempfile::tempdir().unwrap())),
        }
    }
}

// === impl Ground ===

impl Ground {
    pub(crate) fn new() -> Self {
        Self {
            registry: MemoryRegistry::new(),
            // 2026-01-01T00:00:00Z
            clock: ManualClock::at_ms(1_767_225_600_000),
            database: Database::create(),
        }
    }

    pub(crate) fn database(&self) -> DatabaseConfig {
        DatabaseConfig::own(match &self.database {
            Database::Sqlite(dir) => format!("sqlite://{}?mode=rwc", dir.path().join("store.sqlite").display()),
            Database::Postgres { url } => url.clone(),
        })
    }

    /// The store itself, to make what a crash leaves behind.
    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.database()).await.unwrap()
    }

    /// What the registry says about a circuit.
    pub(crate) async fn published(&self, key: &str) -> Option<CircuitState> {
        self.entry(key).await.map(|entry| CircuitState::decode(&entry.value).unwrap())
    }

    /// The generation of an open circuit in the registry.
    pub(crate) async fn published_open(&self, key: &str) -> Option<u64> {
        match self.published(key).await? {
            CircuitState::Open(versioned) => Some(versioned.generation.0),
            CircuitState::Closed { .. } => None,
        }
    }

    /// The generation of a closed circuit in the registry.
    pub(crate) async fn published_closed(&self, key: &str) -> Option<u64> {
        match self.published(key).await? {
            CircuitState::Open(_) => None,
            CircuitState::Closed { generation } => Some(generation.0),
        }
    }

    async fn entry(&self, key: &str) -> Option<Entry> {
        let key: CircuitKey = key.parse().unwrap();
        self.registry.get(&Layout::default().circuit(&key)).await.unwrap().0
    }

    /// Writes a circuit key past the coordinator.
    pub(crate) async fn write(&self, key: &str, value: &[u8]) -> Revision {
        let expected = self.entry(key).await.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        let key: CircuitKey = key.parse().unwrap();
        match self.registry.put(&Layout::default().circuit(&key), expected, value.to_vec(), None).await.unwrap() {
            Swap::Done(revision) => revision,
            Swap::Conflict => panic!("somebody else writes {key}"),
        }
    }

    /// Writes something that nobody waits for, again and again, until the answer is dropped.
    pub(crate) fn keep_busy(&self) -> JoinSet<()> {
        let registry = self.registry.clone();
        let mut busy = JoinSet::new();
        busy.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            let mut expected = Expected::Absent;
            loop {
                ticks.tick().await;
                let swap = registry.put("/appproxy/workers/busy", expected, b"{}".to_vec(), None).await.unwrap();
                let Swap::Done(revision) = swap else { panic!("somebody else writes the key") };
                expected = Expected::At(revision);
            }
        });
        busy
    }

    /// Waits until reconcile has gone through a whole round that began after the call.
    pub(crate) async fn after_a_round(&self) {
        // The first round to see a stray may have begun before; the second begins after the first has ended.
        for _ in 0..2 {
            self.write("stray:probe", br#"{"schema":1,"generation":1,"closed":true}"#).await;
            wait_until("a round of reconcile", async || self.published("stray:probe").await.is_none()).await;
        }
    }
}

// === impl Coordinator ===

impl Coordinator {
    /// Starts one on new ground.
    pub(crate) async fn start(timing: Timing) -> Self {
        Self::start_on(Ground::new(), timing).await
    }

    /// Starts one where another has ended.
    pub(crate) async fn start_on(ground: Ground, timing: Timing) -> Self {
        Self::start_with(ground, timing, keys()).await
    }

    pub(crate) async fn start_with(ground: Ground, timing: Timing, keys: Vec<ApiKey>) -> Self {
        Self::start_api(ground, timing, keys, ApiConfig::default()).await
    }

    /// Starts one with limits of its own.
    pub(crate) async fn start_limited(limits: ApiLimits) -> Self {
        Self::start_api(Ground::new(), patient(), keys(), ApiConfig { limits, ..ApiConfig::default() }).await
    }

    pub(crate) async fn start_api(ground: Ground, timing: Timing, keys: Vec<ApiKey>, api_config: ApiConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let config =
            Config { database: ground.database(), keys, signing_keys: signing_keys(), api: api_config, timing };
        let task = tokio::spawn(coordinator::run(
            config,
            Arc::new(ground.registry.clone()),
            Layout::default(),
            Arc::new(ground.clock.clone()),
            Listeners { api: listener },
            stopped,
        ));
        let client = testkit::client::keep_alive_client();
        let manager = Caller { base: format!("http://{api}"), key: Some(MANAGER_KEY), client };
        let coordinator = Self { ground, manager, stop, task };
        let nobody = coordinator.caller(None);
        wait_until("a coordinator", async || nobody.get("/health/readyz").await.status == 200).await;
        coordinator
    }

    /// Where its API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.manager.base.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) -> Ground {
        let Self { ground, manager, stop, task, .. } = self;
        // Its idle connections would be waited for.
        drop(manager);
        stop.send_replace(true);
        within("the end of the coordinator", task).await.unwrap().unwrap();
        ground
    }

    pub(crate) fn caller(&self, key: Option<&'static str>) -> Caller {
        Caller { key, ..self.manager.clone() }
    }

    /// Opens a circuit, which must answer `201`.
    pub(crate) async fn open(&self, body: Value) -> Value {
        self.manager.post("/v2/circuits", body).await.expect(201)
    }

    /// A circuit as it is.
    pub(crate) async fn show(&self, key: &str) -> Value {
        self.manager.get(&format!("/v2/circuits/{key}")).await.expect(200)
    }

    /// The status of a circuit as lists tell it, which asks no worker.
    pub(crate) async fn circuit_status(&self, key: &str) -> String {
        let page = self.manager.get("/v2/circuits?limit=1000").await.expect(200);
        let found = page["items"].as_array().unwrap().iter().find(|circuit| circuit["key"] == key);
        found.unwrap_or_else(|| panic!("{key} is not open"))["status"].as_str().unwrap().to_owned()
    }

    /// The status of a worker.
    pub(crate) async fn worker_status(&self, id: &str) -> String {
        let worker = self.manager.get(&format!("/v2/workers/{id}")).await.expect(200);
        worker["status"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn wait_for_worker(&self, id: &str, status: &str) {
        wait_until(&format!("worker {id} {status}"), async || self.worker_status(id).await == status).await;
    }

    /// One number of `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.manager.get("/metrics").await.text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }
}

// === impl Caller ===

impl Caller {
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call("POST", path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.call("PUT", path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call("PATCH", path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, None).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("{}{path}", self.base));
        match self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends; no answer of any test may tell a key.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let answer = request.timeout(Duration::from_secs(60)).send().await.unwrap();
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let text = answer.text().await.unwrap();
        for key in KEYS {
            assert!(!text.contains(key) && !format!("{headers:?}").contains(key), "the answer tells a key: {text}");
        }
        let body = serde_json::from_str(&text).unwrap_or_default();
        Reply { status, headers, body, text }
    }
}

// === impl Reply ===

impl Reply {
    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// Checks that it is a problem with this status and code.
    #[track_caller]
    pub(crate) fn expect_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{}", self.text);
        assert_eq!(self.header(header::CONTENT_TYPE.as_str()), Some("application/problem+json"));
        assert_eq!(self.body["status"], status);
        for field in ["type", "title", "detail"] {
            assert!(self.body[field].is_string(), "{field} is missing in {}", self.text);
        }
    }

    /// Pointer and code of each fault.
    pub(crate) fn faults(&self) -> Vec<(&str, &str)> {
        let errors = self.body["errors"].as_array().unwrap();
        errors.iter().map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap())).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}
