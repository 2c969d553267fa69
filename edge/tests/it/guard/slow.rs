//! Clients that take their time.

use std::time::Duration;

use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::websocket::WebSocket;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{TestEdge, at, by_host};
use crate::http2::by_http2;
use crate::peer::{Peer, PeerConnection, field};

const TIMED_OUT: &str = "appproxy_edge_refusals_total{reason=\"body_timeout\"}";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: 20\r\n\r\n";

#[tokio::test]
async fn content_that_stops_coming_is_a_request_timeout() {
    let edge = TestEdge::start_with(|config| config.client.body = Some(Duration::from_millis(300))).await;
    let peer = Peer::start().await;
    edge.serve(&by_host("lab", vec![peer.target()])).await;
    let mut client = PeerConnection::connect(edge.address).await;
    client.send(UPLOAD).await;
    client.send("half").await;
    let mut target = peer.accept().await;
    target.head().await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert_eq!(field(&head, "connection"), Some("close"));
    let problem: serde_json::Value = serde_json::from_slice(&client.until_end().await).expect("JSON");
    assert_eq!(problem["code"], "body_timeout");
    assert_eq!(target.until_end().await, b"half", "the target sees that it was not whole");
    assert_eq!(edge.metric(TIMED_OUT).await, 1.0);
    assert_eq!(edge.metric("appproxy_edge_target_faults_total{reason=\"timeout\"}").await, 0.0);
}

#[tokio::test]
async fn content_that_trickles_is_a_request_timeout_unless_any_pace_will_do() {
    for (least, is_cut) in [(1_000, true), (0, false)] {
        let edge = TestEdge::start_with(|config| {
            config.client.body = Some(Duration::from_millis(500));
            config.client.body_bytes_per_s = least;
        })
        .await;
        let peer = Peer::start().await;
        edge.serve(&by_host("lab", vec![peer.target()])).await;
        let mut client = PeerConnection::connect(edge.address).await;
        client.send(UPLOAD).await;
        let mut target = peer.accept().await;
        target.head().await;
        // Twenty bytes in two seconds, each in time.
        for _ in 0..20 {
            let _ = client.stream.write_all(b"x").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if !is_cut {
            target.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
        let head = client.head().await;
        assert_eq!(head.starts_with("HTTP/1.1 408 "), is_cut, "{head}");
        assert_eq!(edge.metric(TIMED_OUT).await, f64::from(u8::from(is_cut)));
    }
}

#[tokio::test]
async fn content_may_pause_once_the_target_has_begun_to_answer() {
    let edge = TestEdge::start_with(|config| config.client.body = Some(Duration::from_millis(300))).await;
    let peer = Peer::start().await;
    edge.serve(&by_host("lab", vec![peer.target()])).await;
    let mut client = PeerConnection::connect(edge.address).await;
    client.send(UPLOAD).await;
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
    client.head().await;
    assert_eq!(client.exactly(7).await, b"2\r\nok\r\n");
    client.send("0123456789").await;
    assert_eq!(target.exactly(10).await, b"0123456789");
    // Longer than the limit, by the clock of the same runtime that the edge's timers run on.
    tokio::time::sleep(Duration::from_millis(900)).await;
    client.send("0123456789").await;
    assert_eq!(target.exactly(10).await, b"0123456789");
    target.send("2\r\nay\r\n0\r\n\r\n").await;
    assert_eq!(client.exactly(12).await, b"2\r\nay\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_connection_of_http2_without_a_stream_says_goaway_in_time_and_one_with_a_stream_stays() {
    let edge = TestEdge::start_with(|config| config.client.http2_idle = Duration::from_millis(300)).await;
    let origin = Http2Origin::start("lab").await;
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let (mut used, silent, mut busy) = (
        Http2Client::connect(at(port)).await,
        Http2Client::connect(at(port)).await,
        Http2Client::connect(at(port)).await,
    );
    let (held, _) = busy.begin(get("/hold"), true).await.expect("a stream");
    assert_eq!(used.ask(get("/")).await.expect("answered").body, "lab");
    used.wait_for_end().await.expect("GOAWAY without an error");
    silent.wait_for_end().await.expect("GOAWAY without an error");
    // Longer than the limit, by the clock of the same runtime that the edge's timers run on.
    tokio::time::sleep(Duration::from_millis(900)).await;
    origin.release(1);
    assert_eq!(Http2Client::read(held).await.expect("answered").body, "held");
}

#[tokio::test]
async fn no_time_limit_of_requests_ends_what_is_open_and_silent() {
    let edge = TestEdge::start_with(|config| {
        config.client.body = Some(Duration::from_millis(200));
        config.client.head = Duration::from_millis(200);
        config.client.write = Duration::from_millis(200);
        config.client.idle = Duration::from_millis(200);
    })
    .await;
    let (origin, peer) = (Origin::start("lab").await, Peer::start().await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.serve(&by_host("events", vec![peer.target()])).await;
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("a WebSocket");
    let mut events = PeerConnection::connect(edge.address).await;
    events.send("GET / HTTP/1.1\r\nHost: events.apps.test\r\n\r\n").await;
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    events.head().await;
    // Longer than all limits together.
    tokio::time::sleep(Duration::from_secs(1)).await;
    target.send("3\r\nabc\r\n").await;
    assert_eq!(events.exactly(8).await, b"3\r\nabc\r\n");
    assert_eq!(socket.echo("still here").await.as_deref(), Some("still here"));
}
