//! Every answer can be found in the log by its request id.

use crate::harness::{Coordinator, MANAGER_KEY, patient};

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_request_id_the_callers_own_if_it_is_sane() {
    let coordinator = Coordinator::start(patient()).await;
    let nobody = coordinator.caller(None);
    for (method, path, status) in [
        ("GET", "/health/livez", 200),
        ("GET", "/v2/circuits", 401),
        ("GET", "/nowhere", 404),
        ("PUT", "/v2/circuits", 405),
    ] {
        for (name, given) in [("x-request-id", "abc-1"), ("x-backendai-requestid", "abc-2")] {
            let reply = nobody.send(nobody.request(method, path).header(name, given)).await;
            assert_eq!((reply.status, reply.header("x-request-id")), (status, Some(given)), "{method} {path}");
        }
        let insane = nobody.send(nobody.request(method, path).header("x-request-id", "two words")).await;
        assert_ne!(insane.header("x-request-id"), Some("two words"));
        let first = nobody.call(method, path, None).await;
        let second = nobody.call(method, path, None).await;
        assert_ne!(first.header("x-request-id").unwrap(), second.header("x-request-id").unwrap());
    }
    let created = coordinator.manager.get("/v2/circuits").await;
    assert!(created.header("x-request-id").is_some_and(|id| !MANAGER_KEY.contains(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_that_a_method_is_not_taken_is_told_which_ones_are() {
    let coordinator = Coordinator::start(patient()).await;
    for (method, path, allow) in [
        ("PUT", "/v2/circuits", "GET, POST"),
        ("POST", "/v2/circuits/s1:app", "DELETE, GET, PATCH"),
        ("GET", "/v2/sessions/s1", "DELETE"),
        ("POST", "/metrics", "GET"),
        ("HEAD", "/health", "GET"),
        ("OPTIONS", "/v2/workers/w1", "DELETE, GET, PUT"),
    ] {
        let reply = coordinator.manager.call(method, path, None).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(coordinator.manager.get("/nowhere").await.header("allow"), None);
}
