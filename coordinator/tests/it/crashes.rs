//! Crashes between two steps, and restarts: what was stored is served, and nothing is given away again. Promise 10.

use coordinator::placement::Place;
use coordinator::slots::RestRules;
use coordinator::store::{ChangeOutcome, CloseTarget, NewCircuit, OpenOutcome, Store};
use entities::circuit::{CircuitPatch, CircuitSpec};
use entities::clock::Clock;
use entities::ids::Generation;
use entities::registry::layout::CircuitState;
use entities::registry::memory::MemoryRegistry;
use serde_json::{Value, json};
use testkit::wait::wait_until;

use crate::fake_worker::{FakeWorker, main_authority};
use crate::harness::{Coordinator, Ground, MANAGER_KEY, circuit, named_circuit, patient, port_circuit, repairing};

/// Stores a circuit as a coordinator does that ends before it has published.
pub(crate) async fn open_in_store(ground: &Ground, store: &Store, body: &Value) {
    let authority = main_authority("40000-40099");
    let spec = CircuitSpec::read(body).unwrap();
    let place = match body["frontend"]["mode"].as_str() {
        Some("port") => Place::Port(authority.clone(), authority.ports.unwrap()),
        _ => Place::Subdomain(authority.clone(), authority.subdomains.unwrap()),
    };
    let new = NewCircuit { spec, place, now_ms: ground.clock.now_ms(), rests: RestRules::from(&patient()) };
    let outcome = store.open_circuit(&new).await.unwrap();
    assert!(matches!(outcome, OpenOutcome::Opened(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_was_stored_but_not_published_is_served_after_a_restart() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let ground = coordinator.stop().await;
    let store = ground.store().await;
    open_in_store(&ground, &store, &circuit("s1", "app")).await;
    open_in_store(&ground, &store, &port_circuit("s1", "web", Some(40_000))).await;
    drop(store);
    assert_eq!(ground.published("s1:app").await, None);

    let coordinator = Coordinator::start_on(ground, repairing()).await;
    for key in ["s1:app", "s1:web"] {
        wait_until(&format!("{key} HEALTHY"), async || coordinator.circuit_status(key).await == "HEALTHY").await;
        assert_eq!(coordinator.ground.published_open(key).await, Some(1));
    }
    coordinator.manager.post("/v2/circuits", circuit("s1", "app")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_stored_but_not_published_is_served_after_a_restart() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let ground = coordinator.stop().await;
    let patch = CircuitPatch::read(&json!({"targets": []})).unwrap();
    let store = ground.store().await;
    let outcome = store.change_circuit(&"s1:app".parse().unwrap(), None, &patch, ground.clock.now_ms()).await.unwrap();
    assert!(matches!(outcome, ChangeOutcome::Changed(_)), "{outcome:?}");
    drop(store);
    assert_eq!(ground.published_open("s1:app").await, Some(1));

    let coordinator = Coordinator::start_on(ground, repairing()).await;
    wait_until("the change", async || coordinator.ground.published_open("s1:app").await == Some(2)).await;
    wait_until("UNHEALTHY", async || coordinator.circuit_status("s1:app").await == "UNHEALTHY").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_was_stored_but_not_published_is_published_after_a_restart() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(port_circuit("s1", "app", Some(40_000))).await;
    let ground = coordinator.stop().await;
    let store = ground.store().await;
    let target = CloseTarget::Key("s1:app".parse().unwrap());
    assert_eq!(store.close_circuits(&target, ground.clock.now_ms()).await.unwrap().len(), 1);
    drop(store);
    assert_eq!(ground.published_open("s1:app").await, Some(1));

    let coordinator = Coordinator::start_on(ground, repairing()).await;
    wait_until("the close", async || coordinator.ground.published_closed("s1:app").await == Some(2)).await;
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);
    let open = async || coordinator.manager.post("/v2/circuits", port_circuit("s2", "app", Some(40_000))).await;
    open().await.expect_problem(409, "port_resting");
    // Reconcile confirms the release, after which the port rests for a minute and not for a day.
    coordinator.ground.clock.advance(patient().port_rest);
    wait_until("the port free", async || open().await.status == 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_circuits_generations_ports_and_rests() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(port_circuit("s1", "app", None)).await;
    let port = u16::try_from(opened["frontend"]["port"].as_u64().unwrap()).unwrap();
    coordinator.manager.patch("/v2/circuits/s1:app", json!({"labels": {"a": "b"}})).await.expect(200);
    let resting_port = if port == 40_000 { 40_001 } else { 40_000 };
    coordinator.open(port_circuit("s1", "closed", Some(resting_port))).await;
    coordinator.open(named_circuit("s1", "named", "lab")).await;
    worker.refuse_ports([40_050]);
    let before = coordinator.show("s1:app").await;
    coordinator.manager.delete("/v2/circuits/s1:closed").await.expect(204);
    coordinator.manager.delete("/v2/circuits/s1:named").await.expect(204);
    let installation_id = coordinator.manager.get("/status").await.expect(200)["installation_id"].clone();
    let ground = coordinator.stop().await;

    let coordinator = Coordinator::start_on(ground, patient()).await;
    coordinator.wait_for_worker("w1", "ALIVE").await;
    assert_eq!(coordinator.show("s1:app").await, before);
    assert_eq!(coordinator.manager.get("/status").await.expect(200)["installation_id"], installation_id);
    let open = async |body| coordinator.manager.post("/v2/circuits", body).await;
    open(port_circuit("s2", "app", Some(port))).await.expect_problem(409, "port_taken");
    open(port_circuit("s2", "app", Some(resting_port))).await.expect_problem(409, "port_resting");
    open(named_circuit("s2", "app", "lab")).await.expect_problem(409, "subdomain_resting");
    assert_eq!(open(named_circuit("s1", "named", "lab")).await.expect(201)["generation"], 3);
    coordinator.manager.delete("/v2/circuits/s1:closed").await.expect(204);
}

/// A store that was restored from a backup is behind the registry. Its changes once reached no edge, and said `200`.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_ahead_of_the_store_is_overtaken() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let ground = &coordinator.ground;
    // What was changed after the backup.
    let put_ahead = async |key: &str, generation: u64| {
        let Some(CircuitState::Open(mut versioned)) = ground.published(key).await else { panic!("{key} is not open") };
        versioned.generation = Generation(generation);
        versioned.circuit.targets.clear();
        ground.write(key, &CircuitState::Open(versioned).encode().unwrap()).await;
    };
    let targets_of = async |key: &str| match ground.published(key).await {
        Some(CircuitState::Open(versioned)) => versioned.circuit.targets.len(),
        other => panic!("{key} is {other:?}"),
    };

    coordinator.open(circuit("s1", "shown")).await;
    put_ahead("s1:shown", 9).await;
    let again = coordinator.manager.post("/v2/circuits", circuit("s1", "shown")).await.expect(200);
    assert_eq!((&again["generation"], targets_of("s1:shown").await), (&json!(10), 1));

    coordinator.open(circuit("s1", "changed")).await;
    for generation in [9, 11] {
        // Far ahead; then exactly where the change will be, with another content.
        put_ahead("s1:changed", generation).await;
        let labels = json!({"labels": {"after": generation.to_string()}});
        let changed = coordinator.manager.patch("/v2/circuits/s1:changed", labels).await.expect(200);
        assert_eq!((&changed["generation"], targets_of("s1:changed").await), (&json!(generation + 1), 1));
    }

    coordinator.open(circuit("s1", "closed")).await;
    put_ahead("s1:closed", 9).await;
    coordinator.manager.delete("/v2/circuits/s1:closed").await.expect(204);
    assert_eq!(ground.published_closed("s1:closed").await, Some(10));
    assert_eq!(coordinator.open(circuit("s1", "closed")).await["generation"], 11);

    for service in ["open", "gone"] {
        coordinator.open(circuit("s2", service)).await;
        put_ahead(&format!("s2:{service}"), 9).await;
    }
    let ground = coordinator.stop().await;
    let store = ground.store().await;
    store.close_circuits(&CloseTarget::Key("s2:gone".parse().unwrap()), ground.clock.now_ms()).await.unwrap();
    drop(store);
    let coordinator = Coordinator::start_on(ground, patient()).await;
    assert_eq!(coordinator.ground.published_open("s2:open").await, Some(10));
    assert_eq!(coordinator.ground.published_closed("s2:gone").await, Some(10));
}

/// A new in-process registry, as the one-process proxy has after each start.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_an_empty_registry_fills_it() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    drop(worker);
    let mut ground = coordinator.stop().await;
    ground.registry = MemoryRegistry::new();
    let coordinator = Coordinator::start_on(ground, patient()).await;
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(1), "ready means filled");
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.manager.post("/v2/circuits", circuit("s1", "app")).await.expect(200);
}

/// One worker whose key had been taken away once kept a coordinator from starting.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_worker_without_a_key_does_not_keep_the_coordinator_down() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let ground = coordinator.stop().await;
    let keys = vec![coordinator::keys::ApiKey::new(MANAGER_KEY, coordinator::keys::Scope::Manager)];
    let coordinator = Coordinator::start_with(ground, patient(), keys).await;
    assert_eq!(coordinator.circuit_status("s1:app").await, "UNHEALTHY", "nobody can be asked whether it is served");
}
