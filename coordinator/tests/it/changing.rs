//! Changing: nobody overwrites what they have not seen, and a change counts once.

use entities::registry::layout::CircuitState;
use serde_json::{Value, json};
use testkit::wait::wait_until;
use tokio::task::JoinSet;

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, Reply, circuit, hurried, patient};

const PATH: &str = "/v2/circuits/s1:app";

async fn change(coordinator: &Coordinator, if_match: &str, body: &Value) -> Reply {
    let request = coordinator.manager.request("PATCH", PATH).header("if-match", if_match).json(body);
    coordinator.manager.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_needs_the_generation_that_its_author_saw() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(circuit("s1", "app")).await;
    let targets = json!({"targets": [{"host": "10.0.0.6", "port": 80}]});

    change(&coordinator, "\"2\"", &targets).await.expect_problem(412, "generation_mismatch");
    assert_eq!(coordinator.show("s1:app").await["targets"], opened["targets"]);
    for wrong in ["one", "\"1\", \"2\"", "W/\"1\"", ""] {
        change(&coordinator, wrong, &targets).await.expect_problem(400, "invalid_if_match");
    }

    let reply = change(&coordinator, "\"1\"", &targets).await;
    assert_eq!(reply.header("etag"), Some("\"2\""));
    let changed = reply.expect(200);
    assert_eq!(changed["targets"][0]["host"], "10.0.0.6");
    for (field, wanted) in [("generation", json!(2)), ("id", opened["id"].clone()), ("url", opened["url"].clone())] {
        assert_eq!(changed[field], wanted, "{field}");
    }
    let published = coordinator.ground.published("s1:app").await;
    let Some(CircuitState::Open(versioned)) = published else { panic!("{published:?}") };
    assert_eq!(versioned.generation.0, 2);
    assert_eq!(versioned.circuit.targets[0].host.as_str(), "10.0.0.6");

    change(&coordinator, "\"1\"", &json!({"labels": {}})).await.expect_problem(412, "generation_mismatch");
    assert_eq!(change(&coordinator, "*", &json!({"labels": {"a": "b"}})).await.expect(200)["generation"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_the_same_content_changes_nothing() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(circuit("s1", "app")).await;
    coordinator.ground.clock.advance(std::time::Duration::from_secs(5));
    let same = json!({"targets": [{"host": "10.0.0.5", "port": 8888, "weight": 1}], "labels": {}});
    let reply = change(&coordinator, "\"1\"", &same).await;
    assert_eq!(reply.header("etag"), Some("\"1\""));
    assert_eq!(reply.expect(200), opened);

    let changed = change(&coordinator, "\"1\"", &json!({"labels": {"a": "b"}})).await.expect(200);
    assert_eq!(changed["created_at"], "2026-01-01T00:00:00Z");
    assert_eq!(changed["updated_at"], "2026-01-01T00:00:05Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_circuit_is_cannot_be_changed() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let body = json!({"service": "other", "frontend": {"mode": "port"}, "targets": [{"port": 1}], "redeploy": "auto"});
    let reply = coordinator.manager.patch(PATH, body).await;
    reply.expect_problem(400, "invalid_request");
    let mut faults = reply.faults();
    faults.sort_unstable();
    assert_eq!(
        faults,
        [
            ("/frontend", "immutable"),
            ("/redeploy", "not_supported"),
            ("/service", "immutable"),
            ("/targets/0/host", "required"),
        ]
    );
    coordinator.manager.patch(PATH, json!({})).await.expect_problem(400, "invalid_request");
    let reply = coordinator.manager.patch("/v2/circuits/s1:other", json!({"labels": {}})).await;
    reply.expect_problem(404, "no_such_circuit");
    assert_eq!(coordinator.show("s1:app").await["generation"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_authors_who_saw_the_same_generation_one_succeeds() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let mut changing = JoinSet::new();
    for index in 0..8 {
        let manager = coordinator.manager.clone();
        changing.spawn(async move {
            let body = json!({"labels": {"author": index.to_string()}});
            let request = manager.request("PATCH", PATH).header("if-match", "\"1\"").json(&body);
            (index, manager.send(request).await)
        });
    }
    let replies = changing.join_all().await;
    let winners: Vec<i32> = replies.iter().filter(|(_, reply)| reply.status == 200).map(|(index, _)| *index).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    for (_, reply) in replies.iter().filter(|(_, reply)| reply.status != 200) {
        reply.expect_problem(412, "generation_mismatch");
    }
    let shown = coordinator.show("s1:app").await;
    assert_eq!(shown["generation"], 2);
    assert_eq!(shown["labels"]["author"], winners[0].to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_each_count_and_the_registry_ends_with_the_last() {
    const CHANGES: u64 = 12;
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let mut changing = JoinSet::new();
    for index in 0..CHANGES {
        let manager = coordinator.manager.clone();
        changing.spawn(async move {
            let targets = json!([{"host": "10.0.0.5", "port": 1_000 + index}]);
            manager.patch(PATH, json!({"targets": targets})).await.expect(200);
        });
    }
    changing.join_all().await;
    let shown = coordinator.show("s1:app").await;
    assert_eq!(shown["generation"], 1 + CHANGES);
    let published = coordinator.ground.published("s1:app").await;
    let Some(CircuitState::Open(versioned)) = published else { panic!("{published:?}") };
    assert_eq!(versioned.generation.0, 1 + CHANGES);
    assert_eq!(json!(versioned.circuit.targets[0].port), shown["targets"][0]["port"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_follows_the_targets() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let changed = coordinator.manager.patch(PATH, json!({"targets": []})).await.expect(200);
    assert_eq!(changed["status"], "UNHEALTHY");
    let filled = json!({"targets": [{"host": "10.0.0.6", "port": 80}]});
    assert_eq!(coordinator.manager.patch(PATH, filled).await.expect(200)["status"], "HEALTHY");
    assert_eq!(coordinator.circuit_status("s1:app").await, "HEALTHY");
}

/// The status of a change that nobody had applied in time once stayed as it was before.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_follows_a_change_that_was_applied_late() {
    let coordinator = Coordinator::start(hurried()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    worker.hold().await;
    let empty = json!({"session_id": "s1", "service": "empty", "targets": []});
    assert_eq!(coordinator.manager.post("/v2/circuits", empty).await.expect(202)["status"], "PENDING");
    let changed = coordinator.manager.patch(PATH, json!({"targets": []})).await.expect(202);
    assert_eq!((&changed["generation"], &changed["status"]), (&json!(2), &json!("HEALTHY")));
    assert_eq!(changed["applied"]["pending"], json!(["w1"]));

    worker.release();
    for key in ["s1:app", "s1:empty"] {
        wait_until(&format!("{key} UNHEALTHY"), async || coordinator.circuit_status(key).await == "UNHEALTHY").await;
    }
}
