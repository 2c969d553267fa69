//! An edge that serves nobody: it says how far it is, as the test wants it.
//!
//! Invariant: it follows the registry at once unless it is told to hold, and says nothing of itself but when it is
//! asked: no registration and no heartbeat that the test did not order.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use entities::authority::{Authority, DomainFrontends, PortFrontends, Scheme};
use entities::frontend::Frontend;
use entities::ids::{BootId, CircuitKey, Epoch, Generation, Port, Revision, WorkerId};
use entities::registry::layout::{CircuitState, Layout, Meta, Place};
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Listing, Registry};
use entities::worker::{Heartbeat, Refusal, RefusalCode, Registration, SyncReport, TargetReport};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::to_value;
use testkit::wait::within;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use warp::Filter;
use warp::reply::{Reply as _, Response};

use crate::harness::{Coordinator, Ground, OTHER_WORKER_KEY, Reply, WORKER_KEY};

/// A fake edge; it ends when it is dropped.
pub(crate) struct FakeWorker {
    pub(crate) id: WorkerId,
    pub(crate) boot_id: BootId,
    pub(crate) authority: Authority,
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    registry: MemoryRegistry,
    key: &'static str,
    /// What the coordinator has shown last.
    presented: watch::Sender<String>,
    behaviour: watch::Sender<Behaviour>,
    /// The highest revision that was asked for.
    asked: watch::Sender<Revision>,
    asked_times: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// How it answers.
#[derive(Clone)]
struct Behaviour {
    says_id: WorkerId,
    says_boot_id: BootId,
    held_at: Option<Revision>,
    frozen: Option<SyncReport>,
    refused_ports: HashSet<u16>,
    refused_circuits: HashSet<(CircuitKey, Generation)>,
    is_silent: bool,
    /// The keys that it takes from coordinators.
    accepted_keys: Vec<&'static str>,
}

#[derive(Deserialize)]
struct Question {
    epoch: Option<Epoch>,
    revision: Option<Revision>,
    timeout_ms: Option<u64>,
}

/// The authority `main`: subdomains of `apps.test` and these ports.
pub(crate) fn main_authority(ports: &str) -> Authority {
    authority("main", Some("apps.test"), Some(ports))
}

pub(crate) fn authority(name: &str, domain: Option<&str>, ports: Option<&str>) -> Authority {
    Authority {
        name: name.parse().unwrap(),
        subdomains: domain.map(|domain| DomainFrontends {
            domain: domain.parse().unwrap(),
            public_scheme: Scheme::Http,
            public_port: Port::try_from(8080).unwrap(),
        }),
        ports: ports.map(|ports| PortFrontends {
            host: "edge.test".parse().unwrap(),
            ports: ports.parse().unwrap(),
            public_scheme: Scheme::Http,
        }),
    }
}

// === impl FakeWorker ===

impl FakeWorker {
    /// Starts one that nobody knows yet.
    pub(crate) async fn start(ground: &Ground, id: &str, authority: Authority) -> Self {
        let id: WorkerId = id.parse().unwrap();
        let boot_id = BootId::random();
        let key = if authority.name.as_str() == "other" { OTHER_WORKER_KEY } else { WORKER_KEY };
        let behaviour = Behaviour {
            says_id: id.clone(),
            says_boot_id: boot_id,
            held_at: None,
            frozen: None,
            refused_ports: HashSet::new(),
            refused_circuits: HashSet::new(),
            is_silent: false,
            accepted_keys: vec![key],
        };
        let shared = Arc::new(Shared {
            registry: ground.registry.clone(),
            key,
            presented: watch::Sender::new(String::new()),
            behaviour: watch::Sender::new(behaviour),
            asked: watch::Sender::new(Revision::default()),
            asked_times: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = Arc::clone(&shared);
        let routes = warp::path!("v2" / "sync")
            .and(warp::get())
            .and(warp::header::headers_cloned())
            .and(warp::query::<Question>())
            .then(move |headers: HeaderMap, question: Question| {
                let shared = Arc::clone(&answering);
                async move { shared.answer(&headers, &question).await }
            });
        let mut server = JoinSet::new();
        server.spawn(async move { warp::serve(routes).incoming(listener).run().await });
        Self { id, boot_id, authority, address, shared, _server: server }
    }

    /// Starts one at the authority `main` and waits until the coordinator takes it for alive.
    pub(crate) async fn join(coordinator: &Coordinator, id: &str) -> Self {
        Self::join_at(coordinator, id, main_authority("40000-40099")).await
    }

    pub(crate) async fn join_at(coordinator: &Coordinator, id: &str, authority: Authority) -> Self {
        let worker = Self::start(&coordinator.ground, id, authority).await;
        worker.register(coordinator).await.expect(204);
        coordinator.wait_for_worker(id, "ALIVE").await;
        worker
    }

    /// What it says when it registers.
    pub(crate) fn registration(&self) -> Registration {
        Registration {
            boot_id: self.boot_id,
            version: "0.0.0".to_owned(),
            api_url: format!("http://{}", self.address),
            authority: self.authority.clone(),
            weight: 1,
        }
    }

    pub(crate) async fn register(&self, coordinator: &Coordinator) -> Reply {
        let body = to_value(self.registration()).unwrap();
        coordinator.caller(Some(self.shared.key)).put(&format!("/v2/workers/{}", self.id), body).await
    }

    pub(crate) async fn heartbeat(&self, coordinator: &Coordinator) -> Reply {
        self.report(coordinator, Vec::new()).await
    }

    /// A heartbeat with another key than its own.
    pub(crate) async fn heartbeat_with(&self, coordinator: &Coordinator, key: &'static str) -> Reply {
        self.beat(coordinator, key, Vec::new()).await
    }

    /// A heartbeat with news about targets.
    pub(crate) async fn report(&self, coordinator: &Coordinator, targets: Vec<TargetReport>) -> Reply {
        self.beat(coordinator, self.shared.key, targets).await
    }

    async fn beat(&self, coordinator: &Coordinator, key: &'static str, targets: Vec<TargetReport>) -> Reply {
        let body = to_value(Heartbeat { boot_id: self.boot_id, circuits: 3, connections: 5, targets }).unwrap();
        coordinator.caller(Some(key)).post(&format!("/v2/workers/{}/heartbeat", self.id), body).await
    }

    pub(crate) async fn leave(&self, coordinator: &Coordinator) -> Reply {
        let path = format!("/v2/workers/{}?boot_id={}", self.id, self.boot_id);
        coordinator.caller(Some(self.shared.key)).delete(&path).await
    }

    /// From now on it applies nothing; answers where it stands.
    pub(crate) async fn hold(&self) -> Revision {
        let (_, revision) = self.shared.registry.get(&Layout::default().meta()).await.unwrap();
        self.behave(|behaviour| behaviour.held_at = Some(revision));
        revision
    }

    /// From now on it says what it would say now, whatever becomes of the registry.
    pub(crate) async fn freeze(&self) {
        let listing = self.shared.registry.list(&Layout::default().root()).await.unwrap();
        self.behave(|behaviour| behaviour.frozen = Some(behaviour.report(&listing)));
    }

    /// It applies everything again.
    pub(crate) fn release(&self) {
        self.behave(|behaviour| behaviour.held_at = None);
    }

    /// From now on these are all the ports that it cannot bind.
    pub(crate) fn refuse_ports(&self, ports: impl IntoIterator<Item = u16>) {
        let ports = ports.into_iter().collect();
        self.behave(|behaviour| behaviour.refused_ports = ports);
    }

    /// It cannot bind the port that this generation of a circuit has, whichever it is.
    pub(crate) fn refuse_circuit(&self, key: &str, generation: u64) {
        let refused = (key.parse().unwrap(), Generation(generation));
        self.behave(|behaviour| _ = behaviour.refused_circuits.insert(refused));
    }

    /// Whether questions are answered with an error.
    pub(crate) fn be_silent(&self, is_silent: bool) {
        self.behave(|behaviour| behaviour.is_silent = is_silent);
    }

    /// From now on it takes these keys from coordinators.
    pub(crate) fn accept_keys(&self, keys: &[&'static str]) {
        self.behave(|behaviour| behaviour.accepted_keys = keys.to_vec());
    }

    /// Waits until the coordinator shows `key`.
    pub(crate) async fn is_shown(&self, key: &str) {
        let mut presented = self.shared.presented.subscribe();
        within("the key", presented.wait_for(|presented| *presented == format!("Bearer {key}"))).await.unwrap();
    }

    pub(crate) fn answer_as(&self, id: &WorkerId, boot_id: BootId) {
        self.behave(|behaviour| (behaviour.says_id, behaviour.says_boot_id) = (id.clone(), boot_id));
    }

    /// Waits until the coordinator has asked for more than `revision`.
    pub(crate) async fn is_asked_beyond(&self, revision: Revision) {
        let mut asked = self.shared.asked.subscribe();
        within("a question", asked.wait_for(|asked| *asked > revision)).await.unwrap();
    }

    /// How often it was asked.
    pub(crate) fn asked_times(&self) -> usize {
        self.shared.asked_times.load(Ordering::SeqCst)
    }

    /// The most questions that were open at the same time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }

    fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        self.shared.behaviour.send_modify(change);
    }
}

// === impl Shared ===

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    async fn answer(&self, headers: &HeaderMap, question: &Question) -> Response {
        self.asked_times.fetch_add(1, Ordering::SeqCst);
        let count = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let _in_flight = InFlight(&self.in_flight);
        self.most_in_flight.fetch_max(count, Ordering::SeqCst);
        let presented = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
        self.presented.send_replace(presented.to_owned());
        let accepted = self.behaviour.borrow().accepted_keys.clone();
        if !accepted.iter().any(|key| presented == format!("Bearer {key}")) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        if let Some(revision) = question.revision {
            self.asked.send_modify(|asked| *asked = revision.max(*asked));
        }
        match self.report(question).await {
            Some(report) => warp::reply::json(&report).into_response(),
            None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }

    /// Waits until it can say yes, as an edge does.
    async fn report(&self, question: &Question) -> Option<SyncReport> {
        let deadline = Instant::now() + Duration::from_millis(question.timeout_ms.unwrap_or(0));
        let mut behaviours = self.behaviour.subscribe();
        let root = Layout::default().root();
        loop {
            let behaviour = behaviours.borrow_and_update().clone();
            if behaviour.is_silent {
                return None;
            }
            let listing = self.registry.list(&root).await.unwrap();
            let report = behaviour.report(&listing);
            let is_yes = match (question.epoch, question.revision) {
                (Some(epoch), Some(revision)) => report.has_applied(epoch, revision),
                _ => true,
            };
            if is_yes || Instant::now() >= deadline {
                return Some(report);
            }
            let mut events = self.registry.watch(&root, listing.revision.next()).await.unwrap();
            tokio::select! {
                _ = events.next() => {}
                _ = behaviours.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }
}

// === impl Behaviour ===

impl Behaviour {
    fn report(&self, listing: &Listing) -> SyncReport {
        if let Some(frozen) = &self.frozen {
            return frozen.clone();
        }
        let layout = Layout::default();
        let applied = self.held_at.map_or(listing.revision, |held_at| held_at.min(listing.revision));
        let mut epoch = None;
        let mut refused = Vec::new();
        for entry in listing.entries.iter() {
            match layout.parse(&entry.key) {
                Place::Meta => epoch = Some(Meta::decode(&entry.value).unwrap().epoch),
                Place::Circuit(key) if entry.revision <= applied => {
                    let Ok(CircuitState::Open(versioned)) = CircuitState::decode(&entry.value) else { continue };
                    let generation = versioned.generation;
                    let is_refused_port = matches!(versioned.circuit.frontend,
                        Frontend::Port { port } if self.refused_ports.contains(&port.number()));
                    if is_refused_port || self.refused_circuits.contains(&(key.clone(), generation)) {
                        refused.push(Refusal { key, generation, code: RefusalCode::PortInUse });
                    }
                }
                Place::Circuit(_) | Place::Key(_) | Place::Other => {}
            }
        }
        SyncReport { worker_id: self.says_id.clone(), boot_id: self.says_boot_id, epoch, applied, refused }
    }
}
