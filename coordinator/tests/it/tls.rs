//! Where TLS is required, nothing goes over plain HTTP.

use coordinator::config::api::ApiConfig;

use crate::fake_worker::FakeWorker;
use crate::harness::{Caller, Coordinator, Ground, Reply, WORKER_KEY, keys, patient, repairing};

async fn strict(ground: Ground, trusted: &[&str]) -> Coordinator {
    let trusted_proxies = trusted.iter().map(|text| text.parse().unwrap()).collect();
    let api = ApiConfig { require_tls: true, trusted_proxies, ..ApiConfig::default() };
    Coordinator::start_api(ground, repairing(), keys(), api).await
}

async fn forwarded(caller: &Caller, method: &str, path: &str, scheme: &str) -> Reply {
    caller.send(caller.request(method, path).header("x-forwarded-proto", scheme)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_refused_but_for_health_and_loopback_is_no_exception() {
    let coordinator = strict(Ground::new(), &[]).await;
    for (method, path, _, _) in crate::access::ROUTES {
        let reply = coordinator.manager.call(method, path, None).await;
        if path.starts_with("/health") {
            assert_eq!(reply.status, 200, "{path}");
        } else {
            reply.expect_problem(403, "tls_required");
        }
    }
    forwarded(&coordinator.manager, "GET", "/v2/circuits", "https").await.expect_problem(403, "tls_required");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trusted_proxy_took_over_tls_passes() {
    let coordinator = strict(Ground::new(), &["127.0.0.1"]).await;
    forwarded(&coordinator.manager, "GET", "/v2/circuits", "https").await.expect(200);
    forwarded(&coordinator.manager, "GET", "/v2/circuits", "http").await.expect_problem(403, "tls_required");
    coordinator.manager.get("/v2/circuits").await.expect_problem(403, "tls_required");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_would_be_asked_in_the_open_is_not_taken_up_and_not_asked() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let ground = coordinator.stop().await;
    let asked = worker.asked_times();
    let coordinator = strict(ground, &["127.0.0.1"]).await;
    let edge = coordinator.caller(Some(WORKER_KEY));
    let mut registration = serde_json::to_value(worker.registration()).unwrap();
    let register = |body: &serde_json::Value| {
        edge.send(edge.request("PUT", "/v2/workers/w1").header("x-forwarded-proto", "https").json(body))
    };
    let refused = register(&registration).await;
    refused.expect_problem(403, "tls_required");
    assert!(refused.body["detail"].as_str().unwrap().contains("api_url"), "{}", refused.text);
    assert_eq!(worker.asked_times(), asked, "the worker was asked in the open");
    registration["api_url"] = "https://127.0.0.1:1".into();
    register(&registration).await.expect(204);
}
