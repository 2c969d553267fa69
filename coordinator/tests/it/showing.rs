//! Showing a circuit: by any of its names, at once or when it is served, and without doing anybody harm.

use serde_json::json;
use testkit::wait::wait_until;

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, circuit, hurried, patient};

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_is_found_by_key_and_by_id() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(circuit("s1", "app")).await;
    let id = opened["id"].as_str().unwrap();
    for name in ["s1:app", "s1%3Aapp", "%731%3aapp", id] {
        let reply = coordinator.manager.get(&format!("/v2/circuits/{name}")).await;
        assert_eq!(reply.header("etag"), Some("\"1\""));
        assert_eq!(reply.expect(200), opened, "{name}");
    }
    let absent = uuid::Uuid::new_v4().to_string();
    for name in ["s1:other", "s1", "s1:a:b:c", "%ff", "s1:app%2F", &absent] {
        let reply = coordinator.manager.get(&format!("/v2/circuits/{name}")).await;
        reply.expect_problem(404, "no_such_circuit");
    }
    for query in ["wait_s=61", "wait_s=-1", "wait_s=1&wait_s=1", "wait=1"] {
        let reply = coordinator.manager.get(&format!("/v2/circuits/s1:app?{query}")).await;
        reply.expect_problem(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_when_the_worker_has_caught_up() {
    let coordinator = Coordinator::start(hurried()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    worker.hold().await;
    let pending = coordinator.manager.post("/v2/circuits", circuit("s1", "app")).await.expect(202);
    assert_eq!(pending["status"], "PENDING");

    let manager = coordinator.manager.clone();
    let waiting = tokio::spawn(async move { manager.get("/v2/circuits/s1:app?wait_s=60").await });
    let shown = coordinator.manager.get("/v2/circuits/s1:app?wait_s=1").await.expect(200);
    assert_eq!((&shown["status"], &shown["applied"]["pending"]), (&json!("PENDING"), &json!(["w1"])));
    assert!(!waiting.is_finished(), "it waits although a later question has had its answer");

    worker.release();
    let shown = waiting.await.unwrap().expect(200);
    assert_eq!(shown["status"], "HEALTHY");
    assert_eq!((&shown["applied"]["workers"], &shown["applied"]["pending"]), (&json!(["w1"]), &json!([])));
}

/// A look that waits for no time at all once made every worker `LAGGING` that was a millisecond behind, and opening
/// did not wait for it any more.
#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_circuit_makes_no_worker_lagging() {
    let coordinator = Coordinator::start(patient()).await;
    let _quick = FakeWorker::join(&coordinator, "w1").await;
    let slow = FakeWorker::join(&coordinator, "w2").await;
    let held_at = slow.hold().await;
    let manager = coordinator.manager.clone();
    let opening = tokio::spawn(async move { manager.post("/v2/circuits", circuit("s1", "app")).await });
    slow.is_asked_beyond(held_at).await;

    wait_until("w1 has it", async || coordinator.show("s1:app").await["applied"]["workers"] == json!(["w1"])).await;
    let shown = coordinator.show("s1:app").await;
    // Its status may be either: it is served as soon as reconcile has seen that one worker has it.
    assert_eq!(shown["applied"]["pending"], json!(["w2"]));
    let status = coordinator.manager.get("/status").await.expect(200);
    assert_eq!(status["workers_alive"], 2);
    assert!(!opening.is_finished(), "it still waits for the worker that is behind");

    slow.release();
    let opened = opening.await.unwrap().expect(201);
    assert_eq!(opened["applied"]["workers"], json!(["w1", "w2"]));
}
