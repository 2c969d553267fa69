//! Leaving in order.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;
use testkit::wait::wait_until;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, at, by_host, by_port};

#[tokio::test]
async fn a_request_in_flight_finishes_and_idle_connections_end_at_once() {
    let edge = TestEdge::start().await;
    let (origin, port) = (Origin::start("lab").await, free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.serve(&by_port("port", port, vec![origin.target()])).await;
    let address = edge.address;
    let (mut idle, mut idle_at_port) = (RawClient::connect(address).await, RawClient::connect(at(port)).await);
    assert_eq!(idle.get("/", "lab.apps.test").await.status, 200);
    assert_eq!(idle_at_port.get("/", "x.test").await.status, 200);
    let (mut busy, mut busy_at_port) = (RawClient::connect(address).await, RawClient::connect(at(port)).await);
    for client in [&mut busy, &mut busy_at_port] {
        client.send("GET /slow HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    }
    wait_until("the slow requests", async || origin.requests().len() == 4).await;

    edge.begin_stop();
    idle.wait_for_end().await;
    idle_at_port.wait_for_end().await;
    wait_until("the ports to be free", async || {
        TcpListener::bind(address).is_ok() && TcpListener::bind(at(port)).is_ok()
    })
    .await;
    origin.release();
    origin.release();
    for client in [&mut busy, &mut busy_at_port] {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_outlives_the_drain_is_cut() {
    let edge = TestEdge::start_with(|config| config.shutdown_drain = Duration::from_millis(50)).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");
    assert_eq!(socket.echo("open").await.as_deref(), Some("open"));
    edge.stop().await;
    socket.wait_for_end().await;
}

#[tokio::test]
async fn a_connection_that_never_speaks_does_not_hold_the_edge_up() {
    let edge = TestEdge::start_with(|config| config.shutdown_drain = Duration::from_secs(60)).await;
    let mut silent = RawClient::connect(edge.address).await;
    edge.get("127.0.0.1", "/health").await;
    let start = Instant::now();
    edge.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5));
    silent.wait_for_end().await;
}

#[tokio::test]
async fn an_edge_that_leaves_is_unready_while_it_announces_and_still_serves() {
    let edge = TestEdge::start_with(|config| config.announce_time = Duration::from_secs(2)).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.begin_stop();
    wait_until("unready", async || edge.get("127.0.0.1", "/health/readyz").await.status() == 503).await;
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 200);
    edge.stop().await;
}

#[tokio::test]
async fn a_waiting_sync_does_not_hold_the_edge_up() {
    let edge = TestEdge::start_with(|config| config.shutdown_drain = Duration::from_secs(60)).await;
    let mut waiting = RawClient::connect(edge.address).await;
    let query = format!("epoch={}&revision=999&timeout_ms=30000", edge.epoch);
    let key = crate::harness::WORKER_KEY;
    waiting
        .send(&format!("GET /v2/sync?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-BackendAI-Token: {key}\r\n\r\n"))
        .await;
    let connected = || async { edge.metric("appproxy_edge_connections_open").await >= 2.0 };
    wait_until("the question to arrive", connected).await;
    let start = Instant::now();
    edge.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(waiting.answer().await.status, 200);
}

#[tokio::test]
async fn an_edge_that_is_cancelled_leaves_nothing_behind() {
    let edge = TestEdge::start().await;
    let (origin, port) = (Origin::start("lab").await, free_port());
    edge.serve(&by_port("lab", port, vec![origin.target()])).await;
    edge.serve(&by_host("lab-name", vec![origin.target()])).await;
    let address = edge.address;
    let mut by_number = WebSocket::open(at(port), "x.test", "/ws").await.expect("upgraded");
    let mut by_name = WebSocket::open(address, "lab-name.apps.test", "/ws").await.expect("upgraded");
    edge.cancel().await;
    by_number.wait_for_end().await;
    by_name.wait_for_end().await;
    wait_until("the ports to be free", async || {
        TcpListener::bind(address).is_ok() && TcpListener::bind(at(port)).is_ok()
    })
    .await;
}
