//! Reconcile: the registry becomes what the store says, and a mistake does not become a catastrophe.

use std::time::Duration;

use entities::ids::{Epoch, InstallationId};
use entities::registry::layout::{Layout, Meta};
use entities::registry::{Expected, Registry};
use sea_orm::{ConnectionTrait, Database};
use serde_json::json;
use testkit::wait::wait_until;

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, Ground, circuit, patient, port_circuit, repairing};

const CLOSED: &[u8] = br#"{"schema":1,"generation":7,"closed":true}"#;

async fn count(ground: &Ground) -> usize {
    ground.registry.list(&Layout::default().circuits()).await.unwrap().entries.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_store_does_not_know_is_deleted() {
    let coordinator = Coordinator::start(repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    coordinator.ground.write("s9:stray", CLOSED).await;
    coordinator.ground.write("s9:garbage", b"not an envelope").await;
    wait_until("no stray", async || count(&coordinator.ground).await == 1).await;
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(1));
    // Counted after it was done; a round may also have been faster than whoever opened the circuit.
    wait_until("both to be counted", async || {
        coordinator.metric("appproxy_coordinator_reconcile_repairs_total").await >= 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_whose_row_does_not_read_is_served_on() {
    let coordinator = Coordinator::start(repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let database = Database::connect(&coordinator.ground.database().url).await.unwrap();
    database.execute_unprepared("UPDATE circuits SET spec = '{}'").await.unwrap();
    coordinator.ground.after_a_round().await;
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_strays_are_a_mistake_and_stay() {
    let ground = Ground::new();
    for index in 0..101 {
        ground.write(&format!("s9:stray-{index}"), CLOSED).await;
    }
    let coordinator = Coordinator::start_on(ground, repairing()).await;
    wait_until("two refusals", async || coordinator.metric("appproxy_coordinator_reconcile_refusals_total").await >= 2)
        .await;
    assert_eq!(count(&coordinator.ground).await, 101);
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;

    // One fewer is believed.
    let key = Layout::default().circuit(&"s9:stray-0".parse().unwrap());
    let entry = coordinator.ground.registry.get(&key).await.unwrap().0.unwrap();
    coordinator.ground.registry.delete(&key, entry.revision).await.unwrap();
    wait_until("no strays", async || count(&coordinator.ground).await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_older_in_the_registry_is_written_again() {
    let coordinator = Coordinator::start(repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    for service in ["deleted", "garbled", "older"] {
        coordinator.open(circuit("s1", service)).await;
        let patch = json!({"labels": {"a": "b"}});
        coordinator.manager.patch(&format!("/v2/circuits/s1:{service}"), patch).await.expect(200);
    }
    let key = Layout::default().circuit(&"s1:deleted".parse().unwrap());
    let entry = coordinator.ground.registry.get(&key).await.unwrap().0.unwrap();
    coordinator.ground.registry.delete(&key, entry.revision).await.unwrap();
    coordinator.ground.write("s1:garbled", b"not an envelope").await;
    coordinator.ground.write("s1:older", br#"{"schema":1,"generation":1,"closed":true}"#).await;
    let registry = &coordinator.ground.registry;
    wait_until("all three", async || {
        let listing = registry.list(&Layout::default().circuits()).await.unwrap();
        let texts: Vec<_> = listing.entries.iter().map(|entry| String::from_utf8_lossy(&entry.value)).collect();
        texts.iter().filter(|text| text.contains("\"generation\":2") && text.contains("\"circuit\"")).count() == 3
    })
    .await;
}

/// Until the registry is complete in another life than this one.
async fn wait_for_another_epoch(coordinator: &Coordinator, before: Epoch) {
    let registry = &coordinator.ground.registry;
    wait_until("another epoch", async || {
        let (entry, _) = registry.get(&Layout::default().meta()).await.unwrap();
        let meta = entry.map(|entry| Meta::decode(&entry.value).unwrap());
        meta.is_some_and(|meta| meta.epoch != before && meta.complete)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_registry_is_filled_again_under_a_new_epoch() {
    let coordinator = Coordinator::start(repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    coordinator.open(port_circuit("s1", "gone", None)).await;
    coordinator.manager.delete("/v2/circuits/s1:gone").await.expect(204);
    let registry = &coordinator.ground.registry;
    let layout = Layout::default();
    let before = registry.epoch(&layout).await.unwrap().unwrap();
    for entry in registry.list(&layout.root()).await.unwrap().entries {
        registry.delete(&entry.key, entry.revision).await.unwrap();
    }
    wait_for_another_epoch(&coordinator, before).await;
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(1));
    assert_eq!(coordinator.ground.published("s1:gone").await, None, "absent is as good as closed");
    // Workers count in the new epoch.
    coordinator.open(circuit("s2", "app")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_registry_is_brought_up_to_the_store_under_a_new_epoch() {
    let coordinator = Coordinator::start(repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let registry = &coordinator.ground.registry;
    let layout = Layout::default();
    coordinator.open(circuit("s1", "changed")).await;
    coordinator.open(circuit("s1", "closed")).await;
    let before = registry.epoch(&layout).await.unwrap().unwrap();
    let copy = registry.snapshot();
    coordinator.manager.patch("/v2/circuits/s1:changed", json!({"targets": []})).await.expect(200);
    coordinator.manager.delete("/v2/circuits/s1:closed").await.expect(204);
    coordinator.open(circuit("s1", "opened")).await;
    registry.restore(copy);
    wait_for_another_epoch(&coordinator, before).await;
    assert_eq!(coordinator.ground.published_open("s1:changed").await, Some(2));
    assert_eq!(coordinator.ground.published_closed("s1:closed").await, Some(2));
    assert_eq!(coordinator.ground.published_open("s1:opened").await, Some(1));
    assert_eq!(coordinator.metric("appproxy_coordinator_registry_epochs_total").await, 1);
    // Workers count in the new epoch.
    coordinator.open(circuit("s2", "app")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_opened_in_a_registry_that_went_back_is_not_said_to_be_served() {
    // Nobody repairs meanwhile.
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let copy = coordinator.ground.registry.snapshot();
    for number in 0..9 {
        coordinator.open(circuit("s1", &format!("app{number}"))).await;
    }
    worker.freeze().await;
    coordinator.ground.registry.restore(copy);
    // The worker still reports a revision above the one that this gets.
    let answer = coordinator.manager.post("/v2/circuits", circuit("s1", "late")).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_of_another_installation_is_left_alone() {
    let coordinator = Coordinator::start(repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let ground = &coordinator.ground;
    let layout = Layout::default();
    let own = ground.registry.snapshot();
    let theirs = Meta { installation_id: InstallationId::random(), epoch: Epoch::random(), complete: true };
    let entry = ground.registry.get(&layout.meta()).await.unwrap().0.unwrap();
    ground.registry.put(&layout.meta(), Expected::At(entry.revision), theirs.encode().unwrap(), None).await.unwrap();
    ground.write("theirs:app", br#"{"schema":1,"generation":7,"closed":true}"#).await;
    let nobody = coordinator.caller(None);
    wait_until("the alarm", async || nobody.get("/health/readyz").await.status == 503).await;
    let theirs_before = ground.registry.list(&layout.root()).await.unwrap().entries;

    let opened = coordinator.manager.post("/v2/circuits", circuit("s1", "late")).await;
    assert_eq!(opened.status, 202, "{}", opened.text);
    let theirs_after = ground.registry.list(&layout.root()).await.unwrap().entries;
    assert_eq!(theirs_after, theirs_before, "nothing of ours is written there");

    ground.registry.restore(own);
    wait_until("our own again", async || ground.published_open("s1:late").await == Some(1)).await;
    wait_until("the end of the alarm", async || nobody.get("/health/readyz").await.status == 200).await;
    coordinator.open(circuit("s1", "later")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_key_is_remembered_for_ten_minutes_and_then_by_nobody() {
    let coordinator = Coordinator::start(repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);
    coordinator.ground.clock.advance(Duration::from_secs(600));
    coordinator.ground.after_a_round().await;
    assert_eq!(coordinator.ground.published_closed("s1:app").await, Some(2));
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);

    coordinator.ground.clock.advance(Duration::from_millis(1));
    wait_until("the end of the envelope", async || coordinator.ground.published("s1:app").await.is_none()).await;
    coordinator.ground.after_a_round().await;
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect_problem(404, "no_such_circuit");
    let opened = coordinator.open(circuit("s1", "app")).await;
    assert_eq!(opened["generation"], 1);
    coordinator.ground.after_a_round().await;
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(1), "the old tombstone does not touch the new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_opened_again_is_not_buried() {
    let coordinator = Coordinator::start(repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);
    coordinator.open(circuit("s1", "app")).await;
    coordinator.ground.clock.advance(Duration::from_secs(3_600));
    coordinator.ground.after_a_round().await;
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(3));
    assert_eq!(coordinator.show("s1:app").await["generation"], 3);
}
