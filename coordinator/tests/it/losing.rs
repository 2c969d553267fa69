//! Lost workers: what nobody serves does not say that it is served, and who comes back counts again.

use std::time::Duration;

use coordinator::config::Timing;
use serde_json::json;
use testkit::wait::wait_until;

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, circuit, hurried};

fn impatient() -> Timing {
    Timing { worker_lost_after: Duration::from_millis(200), ..hurried() }
}

/// Lets time pass in which a worker says nothing.
async fn lose(coordinator: &Coordinator, worker: &FakeWorker) {
    worker.be_silent(true);
    coordinator.ground.clock.advance(impatient().worker_lost_after);
    coordinator.wait_for_worker(worker.id.as_str(), "LOST").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_of_a_lost_worker_are_unhealthy_until_it_is_back() {
    let coordinator = Coordinator::start(impatient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    lose(&coordinator, &worker).await;
    assert_eq!(coordinator.circuit_status("s1:app").await, "UNHEALTHY");
    assert_eq!(coordinator.metric("appproxy_coordinator_workers{status=\"ALIVE\"}").await, 0);
    coordinator.manager.post("/v2/circuits", circuit("s2", "app")).await.expect_problem(503, "no_authority");
    let status = coordinator.manager.get("/status").await.expect(200);
    assert_eq!((&status["workers_alive"], &status["workers_other"]), (&json!(0), &json!(1)));

    worker.be_silent(false);
    worker.heartbeat(&coordinator).await.expect(204);
    coordinator.wait_for_worker("w1", "ALIVE").await;
    wait_until("HEALTHY", async || coordinator.circuit_status("s1:app").await == "HEALTHY").await;
    coordinator.open(circuit("s2", "app")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_that_registers_again_is_back_too() {
    let coordinator = Coordinator::start(impatient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    lose(&coordinator, &worker).await;
    let successor = FakeWorker::join(&coordinator, "w1").await;
    wait_until("HEALTHY", async || coordinator.circuit_status("s1:app").await == "HEALTHY").await;
    let shown = coordinator.manager.get("/v2/workers/w1").await.expect(200);
    assert_eq!(shown["boot_id"], json!(successor.boot_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_worker_of_two_changes_nothing_for_circuits() {
    let coordinator = Coordinator::start(impatient()).await;
    let there = FakeWorker::join(&coordinator, "w1").await;
    let gone = FakeWorker::join(&coordinator, "w2").await;
    coordinator.open(circuit("s1", "app")).await;
    gone.be_silent(true);
    // `w2` is silent from now on; `w1` sends heartbeats under the same clock.
    for _ in 0..4 {
        coordinator.ground.clock.advance(impatient().worker_lost_after / 4);
        there.heartbeat(&coordinator).await.expect(204);
    }
    wait_until("w2 LOST", async || {
        there.heartbeat(&coordinator).await.expect(204);
        coordinator.worker_status("w2").await == "LOST"
    })
    .await;
    assert_eq!(coordinator.worker_status("w1").await, "ALIVE");
    assert_eq!(coordinator.circuit_status("s1:app").await, "HEALTHY");
    let opened = coordinator.open(circuit("s2", "app")).await;
    assert_eq!(opened["applied"]["workers"], json!(["w1"]));
    assert_eq!(opened["applied"]["pending"], json!([]));
}

/// A coordinator that was away must not take everybody for dead, nor the dead for living.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_starts_knows_who_was_lost_and_judges_nobody_at_once() {
    let coordinator = Coordinator::start(impatient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    lose(&coordinator, &worker).await;
    let ground = coordinator.stop().await;

    let coordinator = Coordinator::start_on(ground, impatient()).await;
    assert_eq!(coordinator.worker_status("w1").await, "LOST");
    coordinator.manager.post("/v2/circuits", circuit("s2", "app")).await.expect_problem(503, "no_authority");
    worker.be_silent(false);
    worker.heartbeat(&coordinator).await.expect(204);
    coordinator.wait_for_worker("w1", "ALIVE").await;
    let ground = coordinator.stop().await;

    ground.clock.advance(Duration::from_secs(3_600));
    let coordinator = Coordinator::start_on(ground, hurried()).await;
    coordinator.wait_for_worker("w1", "ALIVE").await;
    coordinator.open(circuit("s2", "app")).await;
}
