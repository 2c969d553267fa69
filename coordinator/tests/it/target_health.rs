//! What workers say about targets, and what follows for circuits.

use std::time::Duration;

use coordinator::config::Timing;
use entities::limits::MAX_TARGET_REPORTS;
use entities::worker::TargetReport;
use serde_json::{Value, json};
use testkit::wait::wait_until;

use crate::fake_worker::{FakeWorker, authority};
use crate::harness::{Coordinator, circuit, patient};

/// A circuit `s1:app` with targets at these ports.
fn with_targets(ports: &[u16]) -> Value {
    let mut body = circuit("s1", "app");
    body["targets"] = ports.iter().map(|port| json!({"host": "10.0.0.5", "port": port})).collect();
    body
}

fn report(circuit: &Value, port: u16, healthy: Option<bool>) -> TargetReport {
    TargetReport {
        circuit_id: serde_json::from_value(circuit["id"].clone()).unwrap(),
        host: "10.0.0.5".parse().unwrap(),
        port: port.try_into().unwrap(),
        healthy,
    }
}

/// The status and what is known of each target.
async fn seen(coordinator: &Coordinator) -> (String, Vec<Value>) {
    // First, because whoever looks at one circuit brings its status up to date.
    let listed = coordinator.circuit_status("s1:app").await;
    let shown = coordinator.show("s1:app").await;
    let targets = shown["targets"].as_array().unwrap().iter().map(|target| target["healthy"].clone()).collect();
    let status = shown["status"].as_str().unwrap();
    let status = if status == listed { listed } else { format!("{listed} in lists, {status} by itself") };
    (status, targets)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_is_unhealthy_while_no_target_of_it_works() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(with_targets(&[1, 2])).await;
    assert_eq!(seen(&coordinator).await, ("HEALTHY".to_owned(), vec![json!(null), json!(null)]));
    for (port, healthy, status, known) in [
        (1, Some(false), "HEALTHY", [json!(false), json!(null)]),
        (2, Some(false), "UNHEALTHY", [json!(false), json!(false)]),
        (1, Some(true), "HEALTHY", [json!(true), json!(false)]),
        (1, None, "HEALTHY", [json!(null), json!(false)]),
        (1, Some(false), "UNHEALTHY", [json!(false), json!(false)]),
    ] {
        worker.report(&coordinator, vec![report(&opened, port, healthy)]).await.expect(204);
        assert_eq!(seen(&coordinator).await, (status.to_owned(), known.to_vec()), "{port} {healthy:?}");
    }
    let unhealthy = coordinator.manager.get("/v2/circuits?status=UNHEALTHY").await.expect(200);
    assert_eq!(unhealthy["items"][0]["key"], "s1:app");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_works_if_any_live_worker_says_so() {
    let coordinator = Coordinator::start(patient()).await;
    let (one, two) = (FakeWorker::join(&coordinator, "w1").await, FakeWorker::join(&coordinator, "w2").await);
    let opened = coordinator.open(with_targets(&[1])).await;
    one.report(&coordinator, vec![report(&opened, 1, Some(false))]).await.expect(204);
    assert_eq!(seen(&coordinator).await, ("UNHEALTHY".to_owned(), vec![json!(false)]));
    two.report(&coordinator, vec![report(&opened, 1, Some(true))]).await.expect(204);
    assert_eq!(seen(&coordinator).await, ("HEALTHY".to_owned(), vec![json!(true)]));

    two.leave(&coordinator).await.expect(204);
    wait_until("the word of who has left to count no more", async || {
        seen(&coordinator).await == ("UNHEALTHY".to_owned(), vec![json!(false)])
    })
    .await;
    let _back = FakeWorker::join(&coordinator, "w2").await;
    assert_eq!(seen(&coordinator).await, ("UNHEALTHY".to_owned(), vec![json!(false)]), "it knows nothing yet");
    // Another run under the first one's name knows nothing yet.
    let successor = FakeWorker::start(&coordinator.ground, "w1", one.authority.clone()).await;
    one.answer_as(&successor.id, successor.boot_id);
    successor.register(&coordinator).await.expect(204);
    wait_until("the word of the run before to count no more", async || {
        seen(&coordinator).await == ("HEALTHY".to_owned(), vec![json!(null)])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_worker_said_counts_again_when_it_is_back() {
    let timing = Timing { worker_lost_after: Duration::from_millis(200), ..patient() };
    let coordinator = Coordinator::start(timing).await;
    let (one, two) = (FakeWorker::join(&coordinator, "w1").await, FakeWorker::join(&coordinator, "w2").await);
    let opened = coordinator.open(with_targets(&[1])).await;
    one.report(&coordinator, vec![report(&opened, 1, Some(false))]).await.expect(204);
    one.be_silent(true);
    coordinator.ground.clock.advance(timing.worker_lost_after);
    two.heartbeat(&coordinator).await.expect(204);
    coordinator.wait_for_worker("w1", "LOST").await;
    wait_until("HEALTHY", async || seen(&coordinator).await == ("HEALTHY".to_owned(), vec![json!(null)])).await;
    one.be_silent(false);
    one.heartbeat(&coordinator).await.expect(204);
    wait_until("UNHEALTHY", async || seen(&coordinator).await == ("UNHEALTHY".to_owned(), vec![json!(false)])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_goes_with_the_target_and_with_the_check() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(with_targets(&[1, 2])).await;
    let change = async |body: Value| coordinator.manager.patch("/v2/circuits/s1:app", body).await.expect(200);
    let both = |healthy| vec![report(&opened, 1, Some(healthy)), report(&opened, 2, Some(healthy))];
    worker.report(&coordinator, both(false)).await.expect(204);
    change(json!({"targets": with_targets(&[2, 3])["targets"]})).await;
    assert_eq!(seen(&coordinator).await, ("HEALTHY".to_owned(), vec![json!(false), json!(null)]));
    // A word about a target that is not there any more counts for nothing, even when it comes back.
    worker.report(&coordinator, both(false)).await.expect(204);
    change(json!({"targets": with_targets(&[1, 2])["targets"]})).await;
    assert_eq!(seen(&coordinator).await, ("HEALTHY".to_owned(), vec![json!(null), json!(false)]));
    change(json!({"health_check": {"type": "tcp"}})).await;
    assert_eq!(seen(&coordinator).await, ("HEALTHY".to_owned(), vec![json!(null), json!(null)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_a_say_in_its_own_authority_only() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let stranger = FakeWorker::join_at(&coordinator, "w2", authority("other", None, Some("41000-41099"))).await;
    let opened = coordinator.open(with_targets(&[1])).await;
    let nowhere = json!({"id": uuid::Uuid::new_v4()});
    let reports = vec![report(&opened, 1, Some(false)), report(&nowhere, 1, Some(false))];
    stranger.report(&coordinator, reports).await.expect(204);
    assert_eq!(seen(&coordinator).await, ("HEALTHY".to_owned(), vec![json!(null)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_has_a_limit() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(with_targets(&[1])).await;
    let reports = |count: usize| vec![report(&opened, 1, Some(false)); count];
    worker.report(&coordinator, reports(MAX_TARGET_REPORTS)).await.expect(204);
    let reply = worker.report(&coordinator, reports(MAX_TARGET_REPORTS + 1)).await;
    reply.expect_problem(400, "too_many_targets");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_circuit_stays_pending_whatever_is_known_of_its_targets() {
    let coordinator = Coordinator::start(crate::harness::hurried()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    worker.hold().await;
    let pending = coordinator.manager.post("/v2/circuits", with_targets(&[1])).await.expect(202);
    worker.report(&coordinator, vec![report(&pending, 1, Some(true))]).await.expect(204);
    assert_eq!(seen(&coordinator).await, ("PENDING".to_owned(), vec![json!(true)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_decide_whether_a_circuit_is_healthy_and_say_when_they_are_ignored() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(with_targets(&[1, 2])).await;
    let warnings = |shown: &Value| {
        let codes = shown["warnings"].as_array().unwrap().iter();
        codes.map(|warning| warning["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((opened["status"].as_str(), warnings(&opened)), (Some("HEALTHY"), vec!["public".to_owned()]));
    let change = async |body: Value| coordinator.manager.patch("/v2/circuits/s1:app", body).await.expect(200);
    let target = |weight: u16| json!([{"host": "10.0.0.5", "port": 1, "weight": weight}]);
    assert_eq!(change(json!({"targets": target(0)})).await["status"], "UNHEALTHY");
    let heavy = change(json!({"targets": target(7)})).await;
    assert_eq!(
        (heavy["status"].as_str(), warnings(&heavy)),
        (Some("HEALTHY"), vec!["public".to_owned(), "weights_ignored".to_owned()])
    );
    let honoured = change(json!({"load_balancing": {"strategy": "weighted"}})).await;
    assert_eq!(warnings(&honoured), ["public"]);
}
