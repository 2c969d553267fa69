//! Which request goes where.

use entities::frontend::Frontend;
use testkit::client::client;
use testkit::origin::Origin;
use testkit::raw::RawClient;

use crate::harness::{TestEdge, by_host, name_of};

#[tokio::test]
async fn a_circuit_is_served_at_its_subdomain() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/tree?x=1").await).await, "lab");
    assert_eq!(origin.requests()[0].path, "/tree?x=1");
    assert_eq!(name_of(edge.get("LAB.Apps.Test", "/").await).await, "lab");
}

#[tokio::test]
async fn a_body_reaches_the_target_whole() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let body = "x".repeat(300_000);
    let response = client().post(edge.url("lab.apps.test", "/")).body(body.clone()).send().await.expect("answered");
    assert_eq!(response.status(), 200);
    assert_eq!(origin.requests()[0].body.len(), body.len());
}

#[tokio::test]
async fn an_unknown_host_is_not_found_for_people_and_for_programs() {
    let edge = TestEdge::start().await;
    let response = edge.get("nobody.apps.test", "/").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let problem: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "unknown_address");

    let request = client().get(edge.url("nobody.apps.test", "/")).header("accept", "text/html,*/*");
    let page = request.send().await.expect("answered");
    assert_eq!(page.status(), 404);
    assert!(page.text().await.expect("text").contains("<h1>"));
}

#[tokio::test]
async fn head_gets_the_fields_without_the_content() {
    let edge = TestEdge::start().await;
    let mut client = RawClient::connect(edge.address).await;
    client.send("HEAD / HTTP/1.1\r\nHost: nobody.apps.test\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.status, 404);
    assert!(head.field("content-length").expect("there is one").parse::<usize>().expect("a number") > 0);
    // Content would stand in front of the next answer.
    assert_eq!(client.get("/health/livez", "127.0.0.1").await.status, 200);
}

#[tokio::test]
async fn the_worker_api_answers_addresses_and_its_own_names_only() {
    let edge = TestEdge::start_with(|config| config.api_names = vec!["edge-1.test".parse().expect("valid")]).await;
    for host in ["127.0.0.1", "localhost", "edge-1.test"] {
        assert_eq!(edge.get(host, "/health/livez").await.status(), 200, "{host}");
    }
    assert_eq!(edge.get("other.test", "/health/livez").await.status(), 404);
    assert_eq!(edge.get("127.0.0.1", "/anything").await.status(), 404);
}

#[tokio::test]
async fn a_circuit_shadows_the_worker_api_at_its_exact_host_only() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/metrics").await).await, "lab");
    assert!(edge.get("127.0.0.1", "/metrics").await.text().await.expect("text").contains("appproxy_edge_circuits 1"));

    let mut local = by_host("local", vec![origin.target()]);
    if let Frontend::Subdomain { host, .. } = &mut local.frontend {
        *host = "localhost".parse().expect("valid");
    }
    edge.serve(&local).await;
    assert_eq!(name_of(edge.get("localhost", "/metrics").await).await, "lab");
}

#[tokio::test]
async fn the_worker_api_takes_get_and_head_only() {
    let edge = TestEdge::start().await;
    let response = client().post(edge.url("127.0.0.1", "/health")).send().await.expect("answered");
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET, HEAD");
}

#[tokio::test]
async fn metrics_and_status_are_for_allowed_addresses() {
    let edge = TestEdge::start_with(|config| config.api_allowed = vec!["10.9.9.9".parse().expect("valid")]).await;
    for path in ["/metrics", "/status"] {
        assert_eq!(edge.get("127.0.0.1", path).await.status(), 403, "{path}");
    }
    assert_eq!(edge.get("127.0.0.1", "/health").await.status(), 200);
    let open = TestEdge::start().await;
    let status: serde_json::Value = open.get("127.0.0.1", "/status").await.json().await.expect("JSON");
    assert_eq!(status["worker_id"], "w1");
    assert_eq!(status["ready"], true);
}

#[tokio::test]
async fn sync_needs_the_worker_key() {
    let edge = TestEdge::start().await;
    for request in [
        client().get(edge.url("127.0.0.1", "/v2/sync")),
        client().get(edge.url("127.0.0.1", "/v2/sync")).bearer_auth("wrong"),
        client().get(edge.url("127.0.0.1", "/v2/sync")).header("x-backendai-token", "wrong"),
    ] {
        assert_eq!(request.send().await.expect("answered").status(), 401);
    }
    let request = client().get(edge.url("127.0.0.1", "/v2/sync"));
    let by_token = request.header("x-backendai-token", crate::harness::WORKER_KEY).send().await.expect("answered");
    assert_eq!(by_token.status(), 200);
}

#[tokio::test]
async fn where_tls_is_required_a_coordinator_that_asks_in_the_open_is_refused() {
    let edge = TestEdge::start_incomplete(|config| config.requires_tls = true).await;
    for key in [crate::harness::WORKER_KEY, "wrong"] {
        let answer = client().get(edge.url("127.0.0.1", "/v2/sync")).bearer_auth(key).send().await.expect("answered");
        assert_eq!(answer.status(), 403);
        assert!(answer.text().await.expect("text").contains("tls_required"));
    }
    assert_eq!(edge.get("127.0.0.1", "/health/livez").await.status(), 200);
}

#[tokio::test]
async fn one_connection_may_go_on_to_another_circuit() {
    let (edge, a, b) = (TestEdge::start().await, Origin::start("a").await, Origin::start("b").await);
    edge.serve(&by_host("a", vec![a.target()])).await;
    edge.serve(&by_host("b", vec![b.target()])).await;
    let mut client = RawClient::connect(edge.address).await;
    for (host, name) in [("a.apps.test", "a"), ("b.apps.test", "b"), ("a.apps.test", "a")] {
        let answer = client.get("/", host).await;
        assert!(answer.body.contains(&format!("\"name\":\"{name}\"")), "{}", answer.body);
    }
    assert_eq!(client.get("/", "c.apps.test").await.status, 404);
}

#[tokio::test]
async fn targets_take_turns() {
    let edge = TestEdge::start().await;
    let origins = [Origin::start("one").await, Origin::start("two").await, Origin::start("three").await];
    edge.serve(&by_host("lab", origins.iter().map(Origin::target).collect())).await;
    for _ in 0..9 {
        name_of(edge.get("lab.apps.test", "/").await).await;
    }
    for origin in &origins {
        assert_eq!(origin.requests().len(), 3);
    }
}
