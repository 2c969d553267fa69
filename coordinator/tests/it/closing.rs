//! Closing: it may be said again, it reaches nobody else, and nothing comes back to life.

use serde_json::json;
use testkit::wait::wait_until;

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, circuit, hurried, patient};

#[tokio::test(flavor = "multi_thread")]
async fn closing_again_is_fine_while_the_key_is_remembered() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    coordinator.open(circuit("s1", "web")).await;
    for _ in 0..3 {
        let reply = coordinator.manager.delete("/v2/circuits/s1:app").await;
        assert_eq!(reply.text, "");
        reply.expect(204);
        assert_eq!(coordinator.ground.published_closed("s1:app").await, Some(2));
    }
    coordinator.manager.get("/v2/circuits/s1:app").await.expect_problem(404, "no_such_circuit");
    coordinator
        .manager
        .patch("/v2/circuits/s1:app", json!({"labels": {}}))
        .await
        .expect_problem(404, "no_such_circuit");
    for unknown in ["s1:never", "s2:app", "nonsense", &uuid::Uuid::new_v4().to_string()] {
        let reply = coordinator.manager.delete(&format!("/v2/circuits/{unknown}")).await;
        reply.expect_problem(404, "no_such_circuit");
    }
    assert_eq!(coordinator.show("s1:web").await["status"], "HEALTHY");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_is_closed_by_its_id_too() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(circuit("s1", "app")).await;
    let path = format!("/v2/circuits/{}", opened["id"].as_str().unwrap());
    coordinator.manager.delete(&path).await.expect(204);
    assert_eq!(coordinator.ground.published_closed("s1:app").await, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_not_let_go_is_named() {
    let coordinator = Coordinator::start(hurried()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    worker.hold().await;
    for path in ["/v2/circuits/s1:app", "/v2/circuits/s1:app"] {
        assert_eq!(coordinator.manager.delete(path).await.expect(202), json!({"pending": ["w1"]}));
    }
    worker.release();
    coordinator.wait_for_worker("w1", "ALIVE").await;
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_closes_all_of_it_and_nothing_else() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    // More than are published at the same time.
    for index in 0..20 {
        coordinator.open(circuit("s1", &format!("app-{index}"))).await;
    }
    for session in ["s10", "s2"] {
        coordinator.open(circuit(session, "app")).await;
    }
    for _ in 0..2 {
        coordinator.manager.delete("/v2/sessions/s1").await.expect(204);
    }
    coordinator.manager.delete("/v2/sessions/never").await.expect(204);
    coordinator.manager.delete("/v2/sessions/no%20session").await.expect_problem(400, "invalid_session_id");
    for index in 0..20 {
        assert_eq!(coordinator.ground.published_closed(&format!("s1:app-{index}")).await, Some(2));
    }
    let left = coordinator.manager.get("/v2/circuits").await.expect(200);
    let left: Vec<&str> = left["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(left, ["s10:app", "s2:app"]);
    assert_eq!(coordinator.ground.published_open("s10:app").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_worker_that_has_not_let_go_is_pending() {
    let coordinator = Coordinator::start(hurried()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    coordinator.open(circuit("s1", "web")).await;
    worker.hold().await;
    // Saying it again is no way round: it once was `204` because nothing was left to close.
    for _ in 0..2 {
        assert_eq!(coordinator.manager.delete("/v2/sessions/s1").await.expect(202), json!({"pending": ["w1"]}));
        let left = coordinator.manager.get("/v2/circuits").await.expect(200);
        assert_eq!(left["items"], json!([]), "they are closed all the same");
    }
    coordinator.manager.delete("/v2/sessions/S1").await.expect(204);
    worker.release();
    coordinator.manager.delete("/v2/sessions/s1").await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_opened_again_is_a_new_circuit_of_a_higher_generation() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let first = coordinator.open(circuit("s1", "app")).await;
    coordinator.manager.patch("/v2/circuits/s1:app", json!({"labels": {"a": "b"}})).await.expect(200);
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);
    assert_eq!(coordinator.ground.published_closed("s1:app").await, Some(3));

    let second = coordinator.open(circuit("s1", "app")).await;
    assert_ne!(second["id"], first["id"]);
    assert_ne!(second["url"], first["url"], "a generated name is not given to the same key again");
    assert_eq!(second["generation"], 4);
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(4));
    let path = format!("/v2/circuits/{}", first["id"].as_str().unwrap());
    coordinator.manager.get(&path).await.expect_problem(404, "no_such_circuit");
}

/// An opener that is still waiting must not bring back what was closed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn closing_while_somebody_waits_for_the_opening_stays_closed() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let held_at = worker.hold().await;
    let spawn = |method: &'static str, path: &'static str, body| {
        let manager = coordinator.manager.clone();
        tokio::spawn(async move { manager.call(method, path, body).await })
    };
    let opening = spawn("POST", "/v2/circuits", Some(circuit("s1", "app")));
    worker.is_asked_beyond(held_at).await;
    let closing = spawn("DELETE", "/v2/circuits/s1:app", None);
    wait_until("the closed envelope", async || coordinator.ground.published_closed("s1:app").await == Some(2)).await;
    worker.release();
    closing.await.unwrap().expect(204);
    opening.await.unwrap();
    assert_eq!(coordinator.ground.published_closed("s1:app").await, Some(2));
    coordinator.manager.get("/v2/circuits/s1:app").await.expect_problem(404, "no_such_circuit");
}
