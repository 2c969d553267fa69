//! Ports that a worker cannot bind: the circuit gets another one, or the caller is told and nothing stays.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, main_authority};
use crate::harness::{Coordinator, patient, port_circuit};

async fn ports(coordinator: &Coordinator) -> Value {
    let list = coordinator.manager.get("/v2/authorities").await.expect(200);
    list["items"][0]["ports"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_port_is_replaced_and_passed_over_until_its_rest_is_over() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join_at(&coordinator, "w1", main_authority("40000-40001")).await;
    worker.refuse_circuit("s1:app", 1);
    let opened = coordinator.open(port_circuit("s1", "app", None)).await;
    assert_eq!(opened["generation"], 2, "the first port was refused");
    assert_eq!(coordinator.ground.published_open("s1:app").await, Some(2));
    let good = opened["frontend"]["port"].as_u64().unwrap();
    let bad = u16::try_from(80_001 - good).unwrap();
    assert_eq!(
        ports(&coordinator).await,
        json!({"host": "edge.test", "range": "40000-40001", "used": 1, "resting": 1, "free": 0})
    );
    assert_eq!(coordinator.metric("appproxy_coordinator_ports_refused_total").await, 1);

    let open = async |port| coordinator.manager.post("/v2/circuits", port_circuit("s2", "app", port)).await;
    let rest = patient().bad_port_rest;
    coordinator.ground.clock.advance(rest - Duration::from_millis(1));
    open(None).await.expect_problem(503, "no_free_port");
    open(Some(bad)).await.expect_problem(409, "port_unavailable");
    coordinator.ground.clock.advance(Duration::from_millis(1));
    assert_eq!(open(None).await.expect(201)["frontend"]["port"], bad);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_of_two_that_refuses_is_enough() {
    let coordinator = Coordinator::start(patient()).await;
    let _willing = FakeWorker::join(&coordinator, "w1").await;
    let unwilling = FakeWorker::join(&coordinator, "w2").await;
    unwilling.refuse_circuit("s1:app", 1);
    let opened = coordinator.open(port_circuit("s1", "app", None)).await;
    assert_eq!((&opened["generation"], &opened["applied"]["workers"]), (&json!(2), &json!(["w1", "w2"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_asked_for_and_refused_leaves_nothing_behind() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    worker.refuse_ports([40_007]);
    let reply = coordinator.manager.post("/v2/circuits", port_circuit("s1", "app", Some(40_007))).await;
    reply.expect_problem(409, "port_unavailable");
    coordinator.manager.get("/v2/circuits/s1:app").await.expect_problem(404, "no_such_circuit");
    assert_eq!(coordinator.manager.get("/v2/circuits").await.expect(200)["items"], json!([]));
    assert_eq!(coordinator.ground.published_closed("s1:app").await, Some(2));
    assert_eq!(ports(&coordinator).await["used"], 0);

    let opened = coordinator.open(port_circuit("s1", "app", Some(40_008))).await;
    assert_eq!(opened["generation"], 3, "the key's generation goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_port_is_refused_the_caller_is_told_and_nothing_stays() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    worker.refuse_ports(40_000..40_100);
    let reply = coordinator.manager.post("/v2/circuits", port_circuit("s1", "app", None)).await;
    reply.expect_problem(503, "ports_refused");
    assert!(reply.header("retry-after").is_some());
    coordinator.manager.get("/v2/circuits/s1:app").await.expect_problem(404, "no_such_circuit");
    assert!(coordinator.ground.published_closed("s1:app").await.is_some());
    assert_eq!(ports(&coordinator).await["used"], 0);
    assert_eq!(coordinator.metric("appproxy_coordinator_ports_refused_total").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_other_port_is_left_nothing_stays_either() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join_at(&coordinator, "w1", main_authority("40000-40001")).await;
    worker.refuse_ports([40_000, 40_001]);
    let reply = coordinator.manager.post("/v2/circuits", port_circuit("s1", "app", None)).await;
    reply.expect_problem(503, "no_free_port");
    coordinator.manager.get("/v2/circuits/s1:app").await.expect_problem(404, "no_such_circuit");
    assert!(coordinator.ground.published_closed("s1:app").await.is_some());
}
