//! What the coordinator hears.

use std::time::Duration;

use entities::worker::{Heartbeat, Registration};
use testkit::coordinator::Statuses;
use testkit::wait::wait_until;

use crate::harness::{TestEdge, WORKER_KEY, by_host};

async fn start() -> TestEdge {
    TestEdge::start_with(|config| config.heartbeat_interval = Duration::from_millis(20)).await
}

#[tokio::test]
async fn an_edge_registers_and_sends_heartbeats_and_leaves() {
    let edge = start().await;
    edge.serve(&by_host("lab", vec![])).await;
    wait_until("a heartbeat with a circuit", async || {
        edge.coordinator
            .calls()
            .iter()
            .filter(|call| call.method == "POST")
            .any(|call| serde_json::from_value::<Heartbeat>(call.body.clone()).expect("a heartbeat").circuits == 1)
    })
    .await;
    let address = edge.address;
    let calls = edge.stop().await.calls();
    let first = &calls[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("PUT", "/v2/workers/w1"));
    let registration: Registration = serde_json::from_value(first.body.clone()).expect("a registration");
    assert_eq!(registration.api_url, format!("http://{address}"));
    assert_eq!(registration.authority.name.as_str(), "main");
    let key = format!("Bearer {WORKER_KEY}");
    assert!(calls.iter().all(|call| call.authorization.as_deref() == Some(key.as_str())));
    let last = calls.last().expect("there are calls");
    let leave = format!("/v2/workers/w1?boot_id={}", registration.boot_id);
    assert_eq!((last.method.as_str(), last.path.as_str()), ("DELETE", leave.as_str()));
}

#[tokio::test]
async fn an_edge_that_the_coordinator_forgot_registers_again() {
    let edge = start().await;
    for heartbeat in [404, 409] {
        let before = edge.coordinator.count("PUT");
        edge.coordinator.answer(Statuses { register: 200, heartbeat });
        wait_until("another registration", async || edge.coordinator.count("PUT") > before).await;
    }
}

#[tokio::test]
async fn an_edge_that_is_not_accepted_serves_and_keeps_trying() {
    let edge = start().await;
    edge.coordinator.answer(Statuses { register: 409, heartbeat: 404 });
    wait_until("three attempts", async || edge.coordinator.count("PUT") >= 4).await;
    edge.serve(&by_host("lab", vec![])).await;
    let readiness = edge.get("127.0.0.1", "/health/readyz").await;
    assert_eq!(readiness.status(), 503);
    assert!(readiness.text().await.expect("text").contains("id_in_use"));
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 503);
    let heartbeats = edge.coordinator.count("POST");
    edge.coordinator.answer(Statuses::default());
    wait_until("heartbeats again", async || edge.coordinator.count("POST") > heartbeats).await;
    assert_eq!(edge.get("127.0.0.1", "/health/readyz").await.status(), 200);
}

#[tokio::test]
async fn an_edge_without_a_coordinator_serves() {
    let nobody = testkit::ports::DeadPort::hold();
    let url = format!("http://127.0.0.1:{}", nobody.port());
    let edge = TestEdge::start_with(|config| config.coordinator_url = url).await;
    edge.serve(&by_host("lab", vec![])).await;
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 503);
    edge.stop().await;
}
