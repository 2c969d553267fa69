//! Reconcile: the registry becomes what the store says, and a mistake does not become a catastrophe.

use std::time::Duration;

use entities::ids::InstallationId;
use entities::registry::layout::{Layout, Meta};
use entities::registry::{Expected, Registry};
use serde_json::json;
use testkit::wait::wait_until;

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, Ground, circuit, port_circuit, repairing};

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
    assert_eq!(coordinator.metric("appproxy_coordinator_reconcile_repairs_total").await, 2);
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
    wait_until("a new epoch", async || registry.epoch(&layout).await.unwrap().is_some_and(|epoch| epoch != before))
        .await;
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(1));
    assert_eq!(coordinator.ground.published("s1:gone").await, None, "absent is as good as closed");
    // Workers count in the new epoch.
    coordinator.open(circuit("s2", "app")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_of_another_installation_gets_an_epoch_of_ours() {
    let ground = Ground::new();
    let theirs =
        Meta { installation_id: InstallationId::random(), epoch: entities::ids::Epoch::random(), complete: true };
    let layout = Layout::default();
    ground.registry.put(&layout.meta(), Expected::Absent, theirs.encode().unwrap(), None).await.unwrap();
    let coordinator = Coordinator::start_on(ground, repairing()).await;
    let status = coordinator.manager.get("/status").await.expect(200);
    assert_eq!((&status["is_complete"], &status["version"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))));
    let (entry, _) = coordinator.ground.registry.get(&layout.meta()).await.unwrap();
    let ours = Meta::decode(&entry.unwrap().value).unwrap();
    assert_eq!(json!(ours.installation_id), status["installation_id"]);
    assert_ne!(ours.installation_id, theirs.installation_id);
    assert_ne!(ours.epoch, theirs.epoch);
    assert!(ours.complete);
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
