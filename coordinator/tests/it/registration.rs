//! Workers come and go: one live process a name, one set of settings an authority.

use entities::ids::BootId;
use serde_json::{Value, json, to_value};
use testkit::wait::wait_until;

use crate::fake_worker::{FakeWorker, authority, main_authority};
use crate::harness::{Coordinator, OTHER_WORKER_KEY, WORKER_KEY, circuit, named_circuit, patient, repairing};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_shown_as_it_registered_and_as_it_says() {
    let coordinator = Coordinator::start(patient()).await;
    let second = FakeWorker::join(&coordinator, "w2").await;
    let _first = FakeWorker::join(&coordinator, "w1").await;
    coordinator.ground.clock.advance(std::time::Duration::from_secs(7));
    second.heartbeat(&coordinator).await.expect(204);
    let shown = coordinator.manager.get("/v2/workers/w2").await.expect(200);
    assert_eq!(
        shown,
        json!({
            "id": "w2", "authority": "main", "status": "ALIVE", "version": "0.0.0", "weight": 1,
            "api_url": second.registration().api_url, "boot_id": second.boot_id,
            "circuits": 3, "connections": 5, "seen_at": "2026-01-01T00:00:07Z",
        })
    );
    let list = coordinator.manager.get("/v2/workers").await.expect(200);
    let ids: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|worker| &worker["id"]).collect();
    assert_eq!(ids, ["w1", "w2"]);
    for absent in ["w3", "no%20name"] {
        let reply = coordinator.manager.get(&format!("/v2/workers/{absent}")).await;
        reply.expect_problem(404, "no_such_worker");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_shown_with_its_slots() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join_at(&coordinator, "w1", main_authority("40000-40009")).await;
    coordinator.open(circuit("s1", "app")).await;
    coordinator.open(crate::harness::port_circuit("s1", "web", None)).await;
    assert_eq!(
        coordinator.manager.get("/v2/authorities").await.expect(200),
        json!({"items": [{
            "name": "main", "domain": "apps.test", "subdomains_used": 1,
            "ports": {"host": "edge.test", "range": "40000-40009", "used": 1, "resting": 0, "free": 9},
        }]})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_of_an_unknown_worker_or_run_is_refused() {
    let coordinator = Coordinator::start(patient()).await;
    let mut worker = FakeWorker::start(&coordinator.ground, "w1", main_authority("40000-40099")).await;
    worker.heartbeat(&coordinator).await.expect_problem(404, "no_such_worker");
    worker.register(&coordinator).await.expect(204);
    worker.heartbeat(&coordinator).await.expect(204);
    worker.boot_id = BootId::random();
    worker.heartbeat(&coordinator).await.expect_problem(409, "not_registered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_live_process_does_not_get_a_name() {
    let coordinator = Coordinator::start(patient()).await;
    let first = FakeWorker::join(&coordinator, "w1").await;
    let second = FakeWorker::start(&coordinator.ground, "w1", main_authority("40000-40099")).await;
    second.register(&coordinator).await.expect_problem(409, "worker_id_in_use");
    let shown = coordinator.manager.get("/v2/workers/w1").await.expect(200);
    assert_eq!(shown["boot_id"], json!(first.boot_id));
    // The same run may say so again.
    first.register(&coordinator).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_run_takes_a_name_over_from_one_that_is_silent() {
    let coordinator = Coordinator::start(patient()).await;
    let first = FakeWorker::join(&coordinator, "w1").await;
    first.be_silent(true);
    let second = FakeWorker::join(&coordinator, "w1").await;
    let shown = coordinator.manager.get("/v2/workers/w1").await.expect(200);
    assert_eq!(shown["boot_id"], json!(second.boot_id));
    let opened = coordinator.open(circuit("s1", "app")).await;
    assert_eq!(opened["applied"]["workers"], json!(["w1"]));

    // The old run is back: it finds out that it has no name any more, and cannot send the new one away.
    first.be_silent(false);
    first.heartbeat(&coordinator).await.expect_problem(409, "not_registered");
    first.register(&coordinator).await.expect_problem(409, "worker_id_in_use");
    first.leave(&coordinator).await.expect(204);
    assert_eq!(coordinator.worker_status("w1").await, "ALIVE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_restarted_at_its_address_has_its_name_at_once() {
    let coordinator = Coordinator::start(patient()).await;
    let mut worker = FakeWorker::join(&coordinator, "w1").await;
    worker.boot_id = BootId::random();
    worker.answer_as(&worker.id, worker.boot_id);
    worker.register(&coordinator).await.expect(204);
    coordinator.wait_for_worker("w1", "ALIVE").await;
    let shown = coordinator.manager.get("/v2/workers/w1").await.expect(200);
    assert_eq!(shown["boot_id"], json!(worker.boot_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_one_authority_say_the_same_about_it() {
    let coordinator = Coordinator::start(patient()).await;
    let _first = FakeWorker::join(&coordinator, "w1").await;
    for other in [authority("main", Some("elsewhere.test"), Some("40000-40099")), main_authority("40000-40098")] {
        let second = FakeWorker::start(&coordinator.ground, "w2", other).await;
        second.register(&coordinator).await.expect_problem(409, "authority_differs");
    }
    coordinator.manager.get("/v2/workers/w2").await.expect_problem(404, "no_such_worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_key_acts_for_its_own_authorities_only() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let main = to_value(worker.registration()).unwrap();
    let mut other = main.clone();
    other["authority"] = to_value(authority("other", Some("other.test"), None)).unwrap();
    let of_main = coordinator.caller(Some(WORKER_KEY));
    let of_other = coordinator.caller(Some(OTHER_WORKER_KEY));
    let beat = json!({"boot_id": worker.boot_id, "circuits": 0, "connections": 0});

    of_other.put("/v2/workers/w2", main.clone()).await.expect_problem(403, "wrong_authority");
    of_main.put("/v2/workers/w2", other.clone()).await.expect_problem(403, "wrong_authority");
    // Nor may it take a stranger's name away by serving its own authority under it.
    of_other.put("/v2/workers/w1", other).await.expect_problem(403, "wrong_authority");
    of_other.post("/v2/workers/w1/heartbeat", beat).await.expect_problem(403, "wrong_authority");
    of_other.delete("/v2/workers/w1").await.expect_problem(403, "wrong_authority");
    assert_eq!(coordinator.worker_status("w1").await, "ALIVE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_cannot_be_used_is_refused() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::start(&coordinator.ground, "w1", main_authority("40000-40099")).await;
    let good = to_value(worker.registration()).unwrap();
    let caller = coordinator.caller(Some(WORKER_KEY));
    for url in ["", "10.0.0.7:6130", "ftp://10.0.0.7", "http://"] {
        let mut body = good.clone();
        body["api_url"] = url.into();
        caller.put("/v2/workers/w1", body).await.expect_problem(400, "invalid_api_url");
    }
    for field in ["boot_id", "version", "api_url", "authority"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        caller.put("/v2/workers/w1", body).await.expect_problem(400, "invalid_request");
    }
    caller.put("/v2/workers/-w1", good).await.expect_problem(404, "no_such_worker");
    assert_eq!(coordinator.manager.get("/v2/workers").await.expect(200), json!({"items": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_is_forgotten_and_its_circuits_are_unhealthy() {
    let coordinator = Coordinator::start(patient()).await;
    let first = FakeWorker::join(&coordinator, "w1").await;
    let second = FakeWorker::join(&coordinator, "w2").await;
    coordinator.open(circuit("s1", "app")).await;
    let another_run = format!("/v2/workers/w1?boot_id={}", BootId::random());
    coordinator.caller(Some(WORKER_KEY)).delete(&another_run).await.expect(204);
    assert_eq!(coordinator.worker_status("w1").await, "ALIVE", "only the run that is registered can leave");

    for _ in 0..2 {
        first.leave(&coordinator).await.expect(204);
    }
    coordinator.manager.get("/v2/workers/w1").await.expect_problem(404, "no_such_worker");
    assert_eq!(coordinator.circuit_status("s1:app").await, "HEALTHY");
    second.leave(&coordinator).await.expect(204);
    assert_eq!(coordinator.circuit_status("s1:app").await, "UNHEALTHY");
    coordinator.manager.post("/v2/circuits", circuit("s2", "app")).await.expect_problem(503, "no_authority");
}

/// A worker that went to another authority once left circuits behind that said they were served.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_goes_to_another_authority_leaves_the_old_one() {
    let keys = vec![
        coordinator::keys::ApiKey::new(crate::harness::MANAGER_KEY, coordinator::keys::Scope::Manager),
        coordinator::keys::ApiKey::new(WORKER_KEY, coordinator::keys::Scope::Worker { authorities: vec![] }),
    ];
    let coordinator = Coordinator::start_with(crate::harness::Ground::new(), patient(), keys).await;
    let mut worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    worker.authority = authority("second", Some("second.test"), None);
    worker.register(&coordinator).await.expect(204);
    assert_eq!(coordinator.circuit_status("s1:app").await, "UNHEALTHY");
    let opened = coordinator.open(circuit("s2", "app")).await;
    assert_eq!(opened["authority"], "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_follow_the_domain_of_an_authority_that_only_one_worker_serves() {
    let coordinator = Coordinator::start(repairing()).await;
    let mut worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(named_circuit("s1", "app", "lab")).await;
    worker.authority = authority("main", Some("new.test"), Some("40000-40099"));
    worker.register(&coordinator).await.expect(204);
    wait_until("the new host in the registry", async || coordinator.ground.published_open("s1:app").await == Some(2))
        .await;
    let shown = coordinator.show("s1:app").await;
    assert_eq!((&shown["url"], &shown["generation"]), (&json!("http://lab.new.test:8080/"), &json!(2)));
    let published = coordinator.ground.published("s1:app").await;
    assert!(format!("{published:?}").contains("lab.new.test"), "{published:?}");
    wait_until("HEALTHY", async || coordinator.circuit_status("s1:app").await == "HEALTHY").await;
}
