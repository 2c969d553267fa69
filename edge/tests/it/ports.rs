//! Ports that open and close while the edge runs.

use std::net::TcpListener;
use std::time::Duration;

use entities::worker::RefusalCode;
use testkit::client::client;
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;
use testkit::wait::{wait_until, within};
use testkit::websocket::WebSocket;
use tokio::net::TcpStream;

use crate::harness::{TestEdge, at, by_host, by_port, name_of};

#[tokio::test]
async fn a_circuit_is_served_at_its_port_whatever_the_host() {
    let (edge, origin, port) = (TestEdge::start().await, Origin::start("lab").await, free_port());
    edge.serve(&by_port("lab", port, vec![origin.target()])).await;
    for host in ["127.0.0.1", "other.test", "localhost"] {
        let url = format!("http://{host}:{port}/metrics");
        assert_eq!(name_of(client().get(url).send().await.expect("answered")).await, "lab");
    }
}

#[tokio::test]
async fn applied_means_that_the_port_is_open() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    for number in 0..20 {
        let port = free_port();
        edge.serve(&by_port(&format!("lab-{number}"), port, vec![origin.target()])).await;
        TcpStream::connect(at(port)).await.expect("what is applied accepts");
    }
    assert_eq!(edge.metric("appproxy_edge_ports_open").await, 20.0);
}

#[tokio::test]
async fn a_port_that_something_else_holds_is_refused_and_tried_again() {
    let (edge, origin, port) = (TestEdge::start().await, Origin::start("lab").await, free_port());
    let holder = TcpListener::bind(at(port)).expect("a free port");
    let circuit = by_port("lab", port, vec![origin.target()]);
    edge.publish(&circuit).await;
    let report = edge.wait_applied().await;
    assert_eq!(report.refused.len(), 1);
    assert_eq!((&report.refused[0].key, report.refused[0].code), (&circuit.key, RefusalCode::PortInUse));
    assert_eq!(edge.metric("appproxy_edge_circuits_refused").await, 1.0);
    assert_eq!(edge.metric("appproxy_edge_circuits").await, 0.0);

    drop(holder);
    edge.publish(&circuit).await;
    assert!(edge.wait_applied().await.refused.is_empty());
    assert_eq!(name_of(client().get(format!("http://x.test:{port}/")).send().await.expect("answered")).await, "lab");
}

#[tokio::test]
async fn the_second_circuit_at_one_port_is_refused() {
    let (edge, origin, port) = (TestEdge::start().await, Origin::start("first").await, free_port());
    edge.serve(&by_port("first", port, vec![origin.target()])).await;
    edge.publish(&by_port("second", port, vec![])).await;
    let report = edge.wait_applied().await;
    assert_eq!(report.refused[0].code, RefusalCode::SlotTaken);
    assert_eq!(name_of(client().get(format!("http://x.test:{port}/")).send().await.expect("answered")).await, "first");
}

#[tokio::test]
async fn a_closed_circuit_takes_no_new_connection_once_that_is_applied() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    for number in 0..20 {
        let port = free_port();
        let circuit = by_port(&format!("lab-{number}"), port, vec![origin.target()]);
        edge.serve(&circuit).await;
        edge.close(&circuit).await;
        TcpStream::connect(at(port)).await.expect_err("nobody listens any more");
        TcpListener::bind(at(port)).expect("the port is free again");
    }
    assert_eq!(edge.metric("appproxy_edge_ports_open").await, 0.0);
}

#[tokio::test]
async fn closing_ends_idle_connections_at_once_and_lets_requests_finish() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::from_secs(60)).await;
    let (origin, port) = (Origin::start("lab").await, free_port());
    let circuit = by_port("lab", port, vec![origin.target()]);
    edge.serve(&circuit).await;
    let (mut idle, mut silent, mut busy) =
        (RawClient::connect(at(port)).await, RawClient::connect(at(port)).await, RawClient::connect(at(port)).await);
    assert_eq!(idle.get("/", "x.test").await.status, 200);
    busy.send("GET /slow HTTP/1.1\r\nHost: x.test\r\n\r\n").await;
    wait_until("the slow request", async || origin.requests().len() == 2).await;

    edge.close(&circuit).await;
    idle.wait_for_end().await;
    silent.wait_for_end().await;
    origin.release();
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    busy.wait_for_end().await;
}

#[tokio::test]
async fn a_request_that_outlives_the_drain_time_is_cut() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::from_millis(50)).await;
    let (origin, port) = (Origin::start("lab").await, free_port());
    let circuit = by_port("lab", port, vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut busy = RawClient::connect(at(port)).await;
    busy.send("GET /slow HTTP/1.1\r\nHost: x.test\r\n\r\n").await;
    wait_until("the slow request", async || origin.requests().len() == 1).await;
    edge.close(&circuit).await;
    assert_eq!(busy.try_answer().await, None);
    assert_eq!(edge.metric("appproxy_edge_drains_cut_total").await, 1.0);
}

#[tokio::test]
async fn a_change_of_targets_leaves_the_port_and_its_connections_alone() {
    let (edge, port) = (TestEdge::start().await, free_port());
    let (before, after) = (Origin::start("before").await, Origin::start("after").await);
    let mut circuit = by_port("lab", port, vec![before.target()]);
    edge.serve(&circuit).await;
    let mut kept = RawClient::connect(at(port)).await;
    assert!(kept.get("/", "x.test").await.body.contains("before"));
    circuit.targets = vec![after.target()];
    edge.serve(&circuit).await;
    assert!(kept.get("/", "x.test").await.body.contains("after"));
}

#[tokio::test]
async fn a_port_that_passes_on_within_one_batch_serves_the_new_circuit() {
    let (edge, port) = (TestEdge::start().await, free_port());
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    let circuit = by_port("old", port, vec![old.target()]);
    edge.serve(&circuit).await;
    edge.publish_closed(&circuit).await;
    edge.serve(&by_port("new", port, vec![new.target()])).await;
    let response = within("an answer", client().get(format!("http://x.test:{port}/")).send()).await;
    assert_eq!(name_of(response.expect("answered")).await, "new");
}

#[tokio::test]
async fn a_circuit_that_moves_to_another_port_keeps_its_requests() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::ZERO).await;
    let (origin, from, to) = (Origin::start("lab").await, free_port(), free_port());
    let mut circuit = by_port("lab", from, vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut socket = WebSocket::open(at(from), "x.test", "/ws").await.expect("upgraded");
    circuit.frontend = by_port("lab", to, vec![]).frontend;
    edge.serve(&circuit).await;
    TcpStream::connect(at(from)).await.expect_err("nobody listens any more");
    assert_eq!(name_of(client().get(format!("http://x.test:{to}/")).send().await.expect("answered")).await, "lab");
    assert_eq!(socket.echo("moved").await.as_deref(), Some("moved"));
    edge.close(&circuit).await;
    socket.wait_for_end().await;
}

#[tokio::test]
async fn a_closed_subdomain_is_not_found_on_a_connection_that_stays_for_others() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let (closing, staying) = (by_host("closing", vec![origin.target()]), by_host("staying", vec![origin.target()]));
    edge.serve(&closing).await;
    edge.serve(&staying).await;
    let mut client = RawClient::connect(edge.address).await;
    assert_eq!(client.get("/", "closing.apps.test").await.status, 200);
    edge.close(&closing).await;
    assert_eq!(client.get("/", "closing.apps.test").await.status, 404);
    assert_eq!(client.get("/", "staying.apps.test").await.status, 200);
}
