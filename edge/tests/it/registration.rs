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

#[tokio::test]
async fn worker_keys_are_rotated_without_a_question_or_a_heartbeat_that_fails() {
    const NEW_KEY: &str = "another-worker-key";
    let folder = tempfile::tempdir().expect("a folder");
    let (key_file, accepted_file) = (folder.path().join("key"), folder.path().join("accepted"));
    std::fs::write(&key_file, format!("{WORKER_KEY}\n")).expect("writes");
    std::fs::write(&accepted_file, "").expect("writes");
    let edge = TestEdge::start_with(|config| {
        config.heartbeat_interval = Duration::from_millis(20);
        config.key_file = Some(key_file.clone());
        config.accepted_keys_file = Some(accepted_file.clone());
    })
    .await;
    let asks = async |key: &str| {
        let request = testkit::client::client().get(edge.url("127.0.0.1", "/v2/sync"));
        request.bearer_auth(key).send().await.expect("answered").status().as_u16()
    };
    let shows = || edge.coordinator.calls().last().and_then(|call| call.authorization.clone()).unwrap_or_default();
    assert_eq!((asks(WORKER_KEY).await, asks(NEW_KEY).await), (200, 401));
    // The order of the steps is that of the coordinator's README.
    std::fs::write(&accepted_file, format!("{NEW_KEY}\n")).expect("writes");
    wait_until("the new key", async || {
        assert_eq!(asks(WORKER_KEY).await, 200, "the old key must be accepted all the time");
        asks(NEW_KEY).await == 200
    })
    .await;
    assert_eq!(shows(), format!("Bearer {WORKER_KEY}"));
    std::fs::write(&key_file, NEW_KEY).expect("writes");
    wait_until("the new key in heartbeats", async || {
        assert_eq!(asks(NEW_KEY).await, 200, "the new key must be accepted all the time");
        shows() == format!("Bearer {NEW_KEY}")
    })
    .await;
    std::fs::write(&accepted_file, "# none\n").expect("writes");
    wait_until("the end of the old key", async || asks(WORKER_KEY).await == 401).await;
    assert_eq!(asks(NEW_KEY).await, 200);
    // A file that was emptied by mistake takes nothing away.
    std::fs::write(&key_file, "").expect("writes");
    std::fs::write(&accepted_file, format!("{WORKER_KEY}\n")).expect("writes");
    wait_until("the other file", async || asks(WORKER_KEY).await == 200).await;
    assert_eq!(asks(NEW_KEY).await, 200);
}
