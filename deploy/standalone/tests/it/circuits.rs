//! `201` means served, `204` means gone, and what is open survives.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use testkit::client::client;
use testkit::origin::Origin;
use testkit::websocket::WebSocket;

use crate::harness::{Proxy, Settings, circuit, host_and_port, port_range};

/// A coordinator that answers before the edge knows is found out: the client is faster than this.
const REGISTRY_LAG: Duration = Duration::from_millis(20);

/// Promise 2.
#[tokio::test(flavor = "multi_thread")]
async fn created_means_served_for_a_thousand_circuits_of_eight_clients() {
    const CLIENTS: usize = 8;
    const CIRCUITS: usize = 1_000;
    let settings = Settings { ports: port_range(700), drain_time: Duration::from_secs(1), registry_lag: REGISTRY_LAG };
    let proxy = Proxy::start_with(settings).await;
    let origin = Origin::start("app").await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (manager, target) = (proxy.manager.clone(), origin.address());
        clients.spawn(async move {
            let browser = client();
            for index in (number..CIRCUITS).step_by(CLIENTS) {
                let mode = if index % 2 == 0 { "subdomain" } else { "port" };
                let opened =
                    manager.open(circuit(&format!("s{number}"), &format!("app-{index}"), mode, &[target])).await;
                let url = opened["url"].as_str().unwrap();
                let reply = browser.get(url).send().await.unwrap();
                assert_eq!(reply.status(), StatusCode::OK, "{url}");
                let body: Value = reply.json().await.unwrap();
                assert_eq!(body["name"], "app");
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    proxy.stop().await;
}

/// Promise 5.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_circuit_takes_no_new_connection_and_its_open_ones_end_within_the_drain_time() {
    let drain_time = Duration::from_secs(1);
    let proxy = Proxy::start_with(Settings { ports: port_range(100), drain_time, registry_lag: REGISTRY_LAG }).await;
    let origin = Origin::start("app").await;
    for index in 0..60 {
        let mode = if index % 2 == 0 { "subdomain" } else { "port" };
        let service = format!("app-{index}");
        let opened = proxy.manager.open(circuit("s1", &service, mode, &[origin.address()])).await;
        let (host, port) = host_and_port(&opened);
        let address = ([127, 0, 0, 1], port).into();
        let mut socket = WebSocket::open(address, &host, "/ws").await.unwrap();
        assert_eq!(socket.echo("open").await.as_deref(), Some("open"));

        proxy.manager.close(opened["key"].as_str().unwrap()).await;
        let reply = client().get(opened["url"].as_str().unwrap()).send().await;
        match mode {
            "port" => assert!(reply.is_err_and(|error| error.is_connect()), "port {port} still takes connections"),
            _ => assert_eq!(reply.unwrap().status(), StatusCode::NOT_FOUND),
        }
        if index < 4 {
            socket.wait_for_end().await;
        }
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_each_target_in_turn_and_follow_a_change() {
    let proxy = Proxy::start(10).await;
    let (first, second, third) = (Origin::start("a").await, Origin::start("b").await, Origin::start("c").await);
    let targets = [first.address(), second.address()];
    let opened = proxy.manager.open(circuit("s1", "app", "subdomain", &targets)).await;
    let url = opened["url"].as_str().unwrap();
    let ask = async || client().get(url).send().await.unwrap().json::<Value>().await.unwrap()["name"].clone();
    let mut names = Vec::new();
    for _ in 0..8 {
        names.push(ask().await.as_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["a", "a", "a", "a", "b", "b", "b", "b"]);

    let change = json!({"targets": [{"host": "127.0.0.1", "port": third.address().port()}]});
    let (status, changed) = proxy.manager.call("PATCH", "/v2/circuits/s1:app", Some(change)).await;
    assert_eq!((status, &changed["generation"]), (StatusCode::OK, &json!(2)));
    assert_eq!(ask().await, "c", "the first request after 200 goes to the new target");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_without_a_reachable_target_answers_at_once() {
    let proxy = Proxy::start(10).await;
    let dead = testkit::ports::DeadPort::hold();
    let opened = proxy.manager.open(circuit("s1", "dead", "port", &[([127, 0, 0, 1], dead.port()).into()])).await;
    let reply = client().get(opened["url"].as_str().unwrap()).send().await.unwrap();
    // It may be starting.
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    let opened = proxy.manager.open(circuit("s1", "empty", "subdomain", &[])).await;
    assert_eq!(opened["status"], "UNHEALTHY");
    let reply = client().get(opened["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_something_else_holds_is_passed_over() {
    let ports = port_range(3);
    let origin = Origin::start("app").await;
    let held = std::net::TcpListener::bind(("127.0.0.1", ports.at(0).number())).unwrap();
    let proxy =
        Proxy::start_with(Settings { ports, drain_time: Duration::from_secs(1), registry_lag: Duration::ZERO }).await;
    for service in ["a", "b"] {
        let opened = proxy.manager.open(circuit("s1", service, "port", &[origin.address()])).await;
        let (_, port) = host_and_port(&opened);
        assert_ne!(port, held.local_addr().unwrap().port());
        assert!(client().get(opened["url"].as_str().unwrap()).send().await.unwrap().status().is_success());
    }
    let (status, body) = proxy.manager.call("POST", "/v2/circuits", Some(circuit("s1", "c", "port", &[]))).await;
    assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("no_free_port")));
    let (status, _) = proxy.manager.call("GET", "/v2/circuits/s1:c", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "nothing is left of it");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_closes_all_of_its_circuits_and_no_other() {
    let proxy = Proxy::start(10).await;
    let origin = Origin::start("app").await;
    let mut urls = Vec::new();
    for (session, service, mode) in [("s1", "a", "subdomain"), ("s1", "b", "port"), ("s2", "a", "subdomain")] {
        let opened = proxy.manager.open(circuit(session, service, mode, &[origin.address()])).await;
        urls.push(opened["url"].as_str().unwrap().to_owned());
    }
    let (status, body) = proxy.manager.call("DELETE", "/v2/sessions/s1", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    assert_eq!(client().get(&urls[0]).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert!(client().get(&urls[1]).send().await.is_err());
    assert_eq!(client().get(&urls[2]).send().await.unwrap().status(), StatusCode::OK);
    proxy.stop().await;
}
