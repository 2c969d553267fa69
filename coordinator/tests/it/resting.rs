//! Rest: a stale client never reaches a stranger's service. Promise 3.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::wait::wait_until;

use crate::fake_worker::{FakeWorker, main_authority};
use crate::harness::{Coordinator, Reply, hurried, named_circuit, patient, port_circuit};

const MOMENT: Duration = Duration::from_millis(1);

async fn open(coordinator: &Coordinator, body: Value) -> Reply {
    coordinator.manager.post("/v2/circuits", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_port_is_given_to_nobody_for_a_minute() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join_at(&coordinator, "w1", main_authority("40000-40000")).await;
    coordinator.open(port_circuit("s1", "app", None)).await;
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);

    for span in [Duration::ZERO, Duration::from_secs(60) - MOMENT] {
        coordinator.ground.clock.advance(span);
        // Not even to the one that had it: others may have its address too.
        for session in ["s1", "s2"] {
            open(&coordinator, port_circuit(session, "app", None)).await.expect_problem(503, "no_free_port");
            open(&coordinator, port_circuit(session, "app", Some(40_000))).await.expect_problem(409, "port_resting");
        }
        let list = coordinator.manager.get("/v2/authorities").await.expect(200);
        let ports = &list["items"][0]["ports"];
        assert_eq!((&ports["used"], &ports["resting"], &ports["free"]), (&json!(0), &json!(1), &json!(0)));
    }
    coordinator.ground.clock.advance(MOMENT);
    let opened = open(&coordinator, port_circuit("s2", "app", None)).await.expect(201);
    assert_eq!(opened["frontend"]["port"], 40_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_a_laggard_may_still_serve_rests_until_it_has_let_go() {
    let coordinator = Coordinator::start(hurried()).await;
    let _quick = FakeWorker::join(&coordinator, "w1").await;
    let slow = FakeWorker::join(&coordinator, "w2").await;
    coordinator.open(port_circuit("s1", "app", Some(40_000))).await;
    slow.hold().await;
    let pending = coordinator.manager.delete("/v2/circuits/s1:app").await.expect(202);
    assert_eq!(pending, json!({"pending": ["w2"]}));
    coordinator.wait_for_worker("w2", "LAGGING").await;
    // The workers that count have let go, the laggard has not.
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);
    coordinator.ground.clock.advance(Duration::from_secs(3_600));
    coordinator.ground.after_a_round().await;
    open(&coordinator, port_circuit("s2", "app", Some(40_000))).await.expect_problem(409, "port_resting");

    // On a busy registry no worker is ever at its newest revision; the one that closed the circuit is enough.
    let _busy = coordinator.ground.keep_busy();
    slow.release();
    wait_until("the port free", async || {
        open(&coordinator, port_circuit("s2", "app", Some(40_000))).await.status == 201
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_a_lost_worker_may_still_serve_rests_as_long_as_it_may_serve() {
    let timing = coordinator::config::Timing { worker_lost_after: Duration::from_millis(200), ..hurried() };
    let coordinator = Coordinator::start(timing).await;
    let there = FakeWorker::join(&coordinator, "w1").await;
    let gone = FakeWorker::join(&coordinator, "w2").await;
    // Time has passed for those who say nothing; the one that is there says so.
    let advance = async |span| {
        coordinator.ground.clock.advance(span);
        wait_until("w1 ALIVE", async || {
            there.heartbeat(&coordinator).await.expect(204);
            coordinator.worker_status("w1").await == "ALIVE"
        })
        .await;
    };
    coordinator.open(port_circuit("s1", "app", Some(40_000))).await;
    gone.be_silent(true);
    advance(Duration::from_secs(1)).await;
    wait_until("w2 LOST", async || {
        there.heartbeat(&coordinator).await.expect(204);
        coordinator.worker_status("w2").await == "LOST"
    })
    .await;
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);

    advance(timing.max_staleness - Duration::from_secs(1)).await;
    coordinator.ground.after_a_round().await;
    open(&coordinator, port_circuit("s2", "app", Some(40_000))).await.expect_problem(409, "port_resting");
    advance(Duration::from_secs(1)).await;
    open(&coordinator, port_circuit("s2", "app", Some(40_000))).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_left_holds_no_port_back() {
    let coordinator = Coordinator::start(hurried()).await;
    let _quick = FakeWorker::join(&coordinator, "w1").await;
    let slow = FakeWorker::join(&coordinator, "w2").await;
    coordinator.open(port_circuit("s1", "app", Some(40_000))).await;
    slow.hold().await;
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(202);
    coordinator.ground.clock.advance(Duration::from_secs(60));
    coordinator.ground.after_a_round().await;
    open(&coordinator, port_circuit("s2", "app", Some(40_000))).await.expect_problem(409, "port_resting");
    slow.leave(&coordinator).await.expect(204);
    wait_until("the port free", async || {
        open(&coordinator, port_circuit("s2", "app", Some(40_000))).await.status == 201
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_subdomain_rests_for_everybody_but_its_last_user() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let of_user = |session: &str, user: &str| {
        let mut body = named_circuit(session, "app", "alice-lab");
        body["access"] = json!({"user_id": user});
        body
    };
    let close = async |session: &str| {
        coordinator.manager.delete(&format!("/v2/circuits/{session}:app")).await.expect(204);
    };
    coordinator.open(of_user("s1", "alice")).await;
    close("s1").await;
    open(&coordinator, of_user("s1", "bob")).await.expect_problem(409, "subdomain_resting");
    open(&coordinator, named_circuit("s1", "app", "alice-lab")).await.expect_problem(409, "subdomain_resting");
    // Another session of the same user may have it at once.
    coordinator.open(of_user("s2", "alice")).await;
    close("s2").await;

    coordinator.ground.clock.advance(Duration::from_secs(24 * 3_600) - MOMENT);
    open(&coordinator, of_user("s3", "bob")).await.expect_problem(409, "subdomain_resting");
    coordinator.ground.clock.advance(MOMENT);
    coordinator.open(of_user("s3", "bob")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_user_a_subdomain_belongs_to_its_session() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(named_circuit("s1", "app", "lab")).await;
    coordinator.manager.delete("/v2/sessions/s1").await.expect(204);
    open(&coordinator, named_circuit("s2", "app", "lab")).await.expect_problem(409, "subdomain_resting");
    coordinator.open(named_circuit("s1", "other", "lab")).await;
}

/// Reconcile forgets what has rested: neither too early nor never.
#[tokio::test(flavor = "multi_thread")]
async fn rest_is_neither_forgotten_early_nor_kept_for_ever() {
    let coordinator = Coordinator::start(crate::harness::repairing()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(port_circuit("s1", "app", Some(40_000))).await;
    coordinator.open(named_circuit("s1", "web", "lab")).await;
    coordinator.manager.delete("/v2/sessions/s1").await.expect(204);
    coordinator.ground.clock.advance(Duration::from_secs(60) - MOMENT);
    coordinator.ground.after_a_round().await;
    open(&coordinator, port_circuit("s2", "app", Some(40_000))).await.expect_problem(409, "port_resting");
    coordinator.ground.clock.advance(Duration::from_secs(23 * 3_600));
    coordinator.ground.after_a_round().await;
    open(&coordinator, named_circuit("s2", "web", "lab")).await.expect_problem(409, "subdomain_resting");
    coordinator.ground.clock.advance(Duration::from_secs(3_600));
    coordinator.ground.after_a_round().await;
    coordinator.open(named_circuit("s2", "web", "lab")).await;
    coordinator.open(port_circuit("s2", "app", Some(40_000))).await;
}
