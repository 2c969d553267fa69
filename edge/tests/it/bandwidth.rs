//! Circuits that carry a limited number of bytes. Every bound is one of the least time, which holds on a busy machine too:
//! bytes / rate, less a tenth of a second and one piece that pass ahead of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use entities::circuit::{Backend, Circuit, Protocol};
use entities::rate::Bandwidth;
use http::Request;
use testkit::http2::{Http2Client, Http2Origin};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, at, by_host, by_port};
use crate::peer::{Peer, PeerConnection};

const KIB: usize = 1024;

fn limited(circuit: Circuit, bytes_per_s: usize) -> Circuit {
    let mut circuit = circuit;
    circuit.traffic.bandwidth = Some(Bandwidth { bytes_per_s: bytes_per_s as u64 });
    circuit
}

fn stream(port: u16, peer: &Peer) -> Circuit {
    Circuit { protocol: Protocol::Tcp, backend: Backend::Tcp, ..by_port("stream", port, vec![peer.target()]) }
}

#[tokio::test]
async fn the_connections_of_a_byte_stream_share_what_it_carries() {
    let (edge, peer, port) = (TestEdge::start().await, Peer::start().await, free_port());
    edge.serve(&limited(stream(port, &peer), 128 * KIB)).await;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..2_u8 {
        let mut client = PeerConnection::connect(at(port)).await;
        let mut target = peer.accept().await;
        tasks.push(tokio::spawn(async move {
            target.send(vec![number; 128 * KIB]).await;
            drop(target);
            let got = client.until_end().await;
            assert_eq!(got.len(), 128 * KIB);
            assert!(got.iter().all(|byte| *byte == number));
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!(began.elapsed() >= Duration::from_millis(1_700), "256 KiB in {:?}", began.elapsed());
}

#[tokio::test]
async fn an_open_byte_stream_keeps_to_a_new_limit() {
    let (edge, peer, port) = (TestEdge::start().await, Peer::start().await, free_port());
    let circuit = stream(port, &peer);
    edge.serve(&limited(circuit.clone(), 64 * KIB * KIB)).await;
    let mut client = PeerConnection::connect(at(port)).await;
    let mut target = peer.accept().await;
    client.send(vec![1; 128 * KIB]).await;
    assert_eq!(target.exactly(128 * KIB).await.len(), 128 * KIB);
    edge.serve(&limited(circuit, 64 * KIB)).await;
    let began = Instant::now();
    client.send(vec![2; 128 * KIB]).await;
    assert_eq!(target.exactly(128 * KIB).await, vec![2; 128 * KIB]);
    assert!(began.elapsed() >= Duration::from_millis(1_600), "128 KiB in {:?}", began.elapsed());
}

#[tokio::test]
async fn silence_that_the_limit_makes_does_not_end_a_stream() {
    let (edge, peer, port) = (TestEdge::start().await, Peer::start().await, free_port());
    let mut circuit = limited(stream(port, &peer), 64 * KIB);
    circuit.traffic.timeouts.idle_s = Some(1);
    edge.serve(&circuit).await;
    // Ten connections take turns: each waits two and a half seconds from piece to piece.
    let mut connections = Vec::new();
    for _ in 0..10 {
        let mut client = PeerConnection::connect(at(port)).await;
        let mut target = peer.accept().await;
        target.send(vec![7; 32 * KIB]).await;
        connections.push(tokio::spawn(async move { client.exactly(32 * KIB).await.len() }));
        // It stays open.
        connections.push(tokio::spawn(async move { target.until_end().await.len() + 32 * KIB }));
    }
    for connection in connections {
        assert_eq!(connection.await.expect("carried to its end"), 32 * KIB);
    }
}

#[tokio::test]
async fn a_websocket_is_held_to_it() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&limited(by_host("lab", vec![origin.target()]), 128 * KIB)).await;
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("opens");
    let text = "x".repeat(256 * KIB);
    let began = Instant::now();
    assert_eq!(socket.echo(&text).await.as_deref(), Some(text.as_str()));
    assert!(began.elapsed() >= Duration::from_millis(1_700), "{:?}", began.elapsed());
}

#[tokio::test]
async fn contents_of_requests_and_answers_are_held_to_it() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&limited(by_host("lab", vec![origin.target()]), 128 * KIB)).await;
    let content = "x".repeat(320 * KIB);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
    origin.answer("/big", format!("{head}{content}").as_bytes());
    let mut client = RawClient::connect(edge.address).await;
    let began = Instant::now();
    let answer = client.get("/big", "lab.apps.test").await;
    assert_eq!((answer.status, answer.body.len()), (200, content.len()));
    assert!(began.elapsed() >= Duration::from_millis(1_800), "{:?}", began.elapsed());

    origin.answer("/taken", b"HTTP/1.1 204 No Content\r\n\r\n");
    let mut client = RawClient::connect(edge.address).await;
    let began = Instant::now();
    let length = content.len();
    client
        .send(format!("POST /taken HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: {length}\r\n\r\n{content}"))
        .await;
    assert_eq!(client.head().await.status, 204);
    assert!(began.elapsed() >= Duration::from_millis(1_800), "{:?}", began.elapsed());
    assert_eq!(origin.requests().pop().expect("it arrived").body.len(), length);
}

#[tokio::test]
async fn a_request_that_is_held_back_does_not_use_up_its_targets_time() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let mut circuit = limited(by_host("lab", vec![origin.target()]), 64 * KIB);
    circuit.traffic.timeouts.first_byte_ms = Some(400);
    edge.serve(&circuit).await;
    let content = "x".repeat(192 * KIB);
    let mut client = RawClient::connect(edge.address).await;
    let length = content.len();
    client.send(format!("POST / HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: {length}\r\n\r\n{content}")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn streams_of_http2_are_held_to_it() {
    let (edge, origin, port) = (TestEdge::start().await, Http2Origin::start("calls").await, free_port());
    let mut circuit = limited(by_port("calls", port, vec![origin.target()]), 128 * KIB);
    (circuit.protocol, circuit.backend) = (Protocol::H2, Backend::H2);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let began = Instant::now();
    let request = Request::post("http://app.test/echo").body(()).expect("valid");
    let (answer, mut content) = client.begin(request, false).await.expect("a stream");
    content.send_data(Bytes::from(vec![3; 256 * KIB]), true).expect("sends");
    let answer = Http2Client::read(answer).await.expect("answered");
    assert_eq!(answer.body.len(), 256 * KIB);
    assert!(began.elapsed() >= Duration::from_millis(1_300), "{:?}", began.elapsed());
}
