//! Waiting for the edges: `201` means served, and who is late holds nobody up.

use entities::ids::BootId;
use serde_json::json;
use testkit::wait::{wait_until, within};
use tokio::task::{JoinHandle, JoinSet};

use crate::fake_worker::{FakeWorker, authority};
use crate::harness::{Coordinator, Reply, circuit, hurried, patient, port_circuit};

fn call(
    coordinator: &Coordinator,
    method: &'static str,
    path: &'static str,
    body: serde_json::Value,
) -> JoinHandle<Reply> {
    let manager = coordinator.manager.clone();
    tokio::spawn(async move { manager.call(method, path, Some(body)).await })
}

/// Promise 2.
#[tokio::test(flavor = "multi_thread")]
async fn created_is_said_only_after_the_worker_has_applied() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    for session in ["s1", "s2", "s3"] {
        let held_at = worker.hold().await;
        let manager = coordinator.manager.clone();
        let opening = tokio::spawn(async move { manager.post("/v2/circuits", circuit(session, "app")).await });
        worker.is_asked_beyond(held_at).await;
        let key = format!("{session}:app");
        assert_eq!(coordinator.show(&key).await["status"], "PENDING");
        assert_eq!(coordinator.circuit_status(&key).await, "PENDING");
        assert!(!opening.is_finished(), "the worker serves nothing of it yet");

        worker.release();
        let opened = within("the answer", opening).await.unwrap().expect(201);
        assert_eq!(opened["status"], "HEALTHY");
        assert_eq!(opened["applied"]["workers"], json!(["w1"]));
        assert!(opened["applied"]["revision"].as_u64().unwrap() > held_at.0);
    }
}

/// Promise 2.
#[tokio::test(flavor = "multi_thread")]
async fn created_waits_for_every_alive_worker_of_the_authority_and_for_no_other() {
    let coordinator = Coordinator::start(patient()).await;
    let first = FakeWorker::join(&coordinator, "w1").await;
    let _second = FakeWorker::join(&coordinator, "w2").await;
    let elsewhere = FakeWorker::join_at(&coordinator, "w3", authority("other", None, Some("41000-41009"))).await;
    elsewhere.hold().await;
    let held_at = first.hold().await;
    let opening = call(&coordinator, "POST", "/v2/circuits", circuit("s1", "app"));
    first.is_asked_beyond(held_at).await;
    wait_until("w2 has it", async || coordinator.show("s1:app").await["applied"]["workers"] == json!(["w2"])).await;
    let shown = coordinator.show("s1:app").await;
    assert_eq!((&shown["applied"]["pending"], &shown["status"]), (&json!(["w1"]), &json!("PENDING")));
    assert!(!opening.is_finished());

    first.release();
    let opened = within("the answer", opening).await.unwrap().expect(201);
    assert_eq!(opened["applied"]["workers"], json!(["w1", "w2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_and_a_close_wait_too() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    for (method, body, status) in [("PATCH", json!({"labels": {"a": "b"}}), 200), ("DELETE", json!(null), 204)] {
        let held_at = worker.hold().await;
        let doing = call(&coordinator, method, "/v2/circuits/s1:app", body);
        worker.is_asked_beyond(held_at).await;
        coordinator.manager.get("/v2/circuits").await.expect(200);
        assert!(!doing.is_finished(), "{method} was answered before the worker knew of it");
        worker.release();
        within("the answer", doing).await.unwrap().expect(status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_late_holds_nobody_up_until_it_has_caught_up() {
    let coordinator = Coordinator::start(hurried()).await;
    let _quick = FakeWorker::join(&coordinator, "w1").await;
    let slow = FakeWorker::join(&coordinator, "w2").await;
    slow.hold().await;
    let pending = coordinator.manager.post("/v2/circuits", circuit("s1", "app")).await.expect(202);
    assert_eq!(pending["applied"]["workers"], json!(["w1"]));
    assert_eq!(pending["applied"]["pending"], json!(["w2"]));
    coordinator.wait_for_worker("w2", "LAGGING").await;

    let opened = coordinator.open(circuit("s2", "app")).await;
    assert_eq!(opened["applied"]["workers"], json!(["w1"]));
    assert_eq!(opened["applied"]["pending"], json!([]));
    coordinator.manager.delete("/v2/circuits/s2:app").await.expect(204);

    slow.release();
    coordinator.wait_for_worker("w2", "ALIVE").await;
    let opened = coordinator.open(circuit("s3", "app")).await;
    assert_eq!(opened["applied"]["workers"], json!(["w1", "w2"]));
    assert_eq!(coordinator.worker_status("w1").await, "ALIVE");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_only_worker_is_late_the_circuit_is_pending_and_then_healthy() {
    let coordinator = Coordinator::start(hurried()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    worker.hold().await;
    for session in ["s1", "s2"] {
        let pending = coordinator.manager.post("/v2/circuits", circuit(session, "app")).await.expect(202);
        assert_eq!((&pending["status"], &pending["applied"]["workers"]), (&json!("PENDING"), &json!([])));
        assert_eq!(pending["applied"]["pending"], json!(["w1"]), "a laggard that nobody else stands in for counts");
    }
    worker.release();
    wait_until("both HEALTHY", async || {
        coordinator.circuit_status("s1:app").await == "HEALTHY"
            && coordinator.circuit_status("s2:app").await == "HEALTHY"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_at_a_time_is_under_way_to_a_worker() {
    const OPENERS: usize = 8;
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join_at(&coordinator, "w1", authority("main", None, Some("40000-40099"))).await;
    let mut held_at = worker.hold().await;
    let mut opening = JoinSet::new();
    for opener in 0..OPENERS {
        let manager = coordinator.manager.clone();
        opening.spawn(async move {
            for index in 0..5 {
                let body = port_circuit(&format!("s{opener}"), &format!("app-{index}"), None);
                manager.post("/v2/circuits", body).await.expect(201);
            }
        });
    }
    // The first question is held open while the others come; then all go on as fast as they can.
    worker.is_asked_beyond(held_at).await;
    wait_until("all openers' first circuits", async || {
        let page = coordinator.manager.get("/v2/circuits").await.expect(200);
        page["items"].as_array().unwrap().len() == OPENERS
    })
    .await;
    worker.release();
    opening.join_all().await;
    assert_eq!(worker.most_in_flight(), 1);

    // One that was asked for less than all of it is asked again for the rest.
    held_at = worker.hold().await;
    let last = call(&coordinator, "POST", "/v2/circuits", port_circuit("last", "app", None));
    worker.is_asked_beyond(held_at).await;
    worker.release();
    last.await.unwrap().expect(201);
    assert_eq!(worker.most_in_flight(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_run_or_another_worker_counts_for_nothing() {
    let coordinator = Coordinator::start(hurried()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    for (id, boot_id, session) in [("w1", BootId::random(), "s1"), ("w2", worker.boot_id, "s2")] {
        worker.answer_as(&id.parse().unwrap(), boot_id);
        let pending = coordinator.manager.post("/v2/circuits", circuit(session, "app")).await.expect(202);
        assert_eq!(pending["applied"]["workers"], json!([]), "answers as {id} of run {boot_id}");
        coordinator.wait_for_worker("w1", "LAGGING").await;
        worker.answer_as(&worker.id, worker.boot_id);
        coordinator.wait_for_worker("w1", "ALIVE").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_three_questions_unanswered_holds_nobody_up_until_it_answers() {
    let coordinator = Coordinator::start(patient()).await;
    let _quick = FakeWorker::join(&coordinator, "w1").await;
    let mute = FakeWorker::join(&coordinator, "w2").await;
    mute.be_silent(true);
    let asked_before = mute.asked_times();
    let opened = coordinator.open(circuit("s1", "app")).await;
    assert_eq!((&opened["applied"]["workers"], &opened["applied"]["pending"]), (&json!(["w1"]), &json!([])));
    assert!(mute.asked_times() >= asked_before + 3);
    coordinator.wait_for_worker("w2", "LAGGING").await;
    mute.be_silent(false);
    coordinator.wait_for_worker("w2", "ALIVE").await;
}
