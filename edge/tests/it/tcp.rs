//! Byte streams through ports.

use std::time::Duration;

use entities::circuit::{Backend, Circuit, Protocol, ProxyProtocol};
use entities::target::Target;
use testkit::ports::{DeadPort, free_port};
use testkit::wait::wait_until;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{TestEdge, at, by_port};
use crate::peer::{Peer, PeerConnection};

/// A circuit of bytes at `port`.
fn stream(port: u16, targets: Vec<Target>) -> Circuit {
    Circuit { protocol: Protocol::Tcp, backend: Backend::Tcp, ..by_port("stream", port, targets) }
}

/// An edge with one byte stream, and both ends of a connection through it.
async fn connected(change: impl FnOnce(&mut Circuit)) -> (TestEdge, PeerConnection, PeerConnection) {
    let (edge, peer, port) = (TestEdge::start().await, Peer::start().await, free_port());
    let mut circuit = stream(port, vec![peer.target()]);
    change(&mut circuit);
    edge.serve(&circuit).await;
    let client = PeerConnection::connect(at(port)).await;
    let target = peer.accept().await;
    (edge, client, target)
}

async fn wait_for_ends(edge: &TestEdge, reason: &str) {
    let metric = format!("appproxy_edge_relay_ends_total{{reason=\"{reason}\"}}");
    wait_until("the end of the relay", async || edge.metric(&metric).await == 1.0).await;
    edge.wait_for_no_connection().await;
}

#[tokio::test]
async fn whoever_speaks_first_is_heard_and_each_end_is_passed_on() {
    let (edge, mut client, mut target) = connected(|_| {}).await;
    target.send("220 ready").await;
    assert_eq!(client.exactly(9).await, b"220 ready");
    client.send(b"GET / HTTP/1.1\r\n\r\n\x00\xff").await;
    client.stream.shutdown().await.expect("half-closes");
    assert_eq!(target.until_end().await, b"GET / HTTP/1.1\r\n\r\n\x00\xff");
    target.send("still talking").await;
    assert_eq!(client.exactly(13).await, b"still talking");
    drop(target);
    assert_eq!(client.until_end().await, b"");
    wait_for_ends(&edge, "finished").await;
    assert_eq!(edge.metric("appproxy_edge_relayed_bytes_total{direction=\"to_client\"}").await, 22.0);
}

#[tokio::test]
async fn the_next_target_is_tried_and_a_client_without_any_sees_an_error() {
    let (edge, peer, port) = (TestEdge::start().await, Peer::start().await, free_port());
    let (first, second) = (DeadPort::hold(), DeadPort::hold());
    let dead = |dead: &DeadPort| testkit::origin::target("127.0.0.1", dead.port());
    let mut circuit = stream(port, vec![dead(&first), dead(&second), peer.target()]);
    edge.serve(&circuit).await;
    for _ in 0..3 {
        let mut client = PeerConnection::connect(at(port)).await;
        client.send("ping").await;
        assert_eq!(peer.accept().await.exactly(4).await, b"ping");
    }
    for targets in [vec![dead(&first)], vec![]] {
        circuit.targets = targets;
        edge.serve(&circuit).await;
        let mut client = PeerConnection::connect(at(port)).await;
        let error = client.stream.readable().await.and_then(|()| client.stream.try_read(&mut [0; 1]));
        assert_eq!(error.expect_err("no orderly end").kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(client.until_end().await, b"");
    }
}

#[tokio::test]
async fn a_target_learns_who_the_client_is_if_the_circuit_says_so() {
    let (_edge, mut client, mut target) = connected(|circuit| {
        circuit.traffic.proxy_protocol = Some(ProxyProtocol::V1);
    })
    .await;
    client.send("hello").await;
    let (ours, edges) = (client.stream.local_addr().expect("bound"), client.stream.peer_addr().expect("connected"));
    let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", ours.port(), edges.port());
    assert_eq!(target.exactly(line.len()).await, line.as_bytes());

    let (_edge, client, mut target) = connected(|circuit| {
        circuit.traffic.proxy_protocol = Some(ProxyProtocol::V2);
    })
    .await;
    let header = target.exactly(28).await;
    assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(header[24..26], client.stream.local_addr().expect("bound").port().to_be_bytes());
}

#[tokio::test]
async fn silence_ends_a_stream_only_where_the_circuit_says_so() {
    let (edge, mut client, mut target) = connected(|circuit| circuit.traffic.timeouts.idle_s = Some(1)).await;
    assert_eq!(client.until_end().await, b"");
    assert_eq!(target.until_end().await, b"");
    wait_for_ends(&edge, "idle").await;
}

#[tokio::test]
async fn a_reset_reaches_the_other_side_and_is_blamed_on_its_sender() {
    let (edge, mut client, mut target) = connected(|_| {}).await;
    client.send("ping").await;
    assert_eq!(target.exactly(4).await, b"ping");
    client.stream.set_zero_linger().expect("an option");
    drop(client);
    assert_eq!(target.until_end().await, b"");
    wait_for_ends(&edge, "client").await;

    let (edge, mut client, mut target) = connected(|_| {}).await;
    // The edge may not have heard yet that it is connected.
    client.send("ping").await;
    assert_eq!(target.exactly(4).await, b"ping");
    target.stream.set_zero_linger().expect("an option");
    drop(target);
    assert_eq!(client.until_end().await, b"");
    wait_for_ends(&edge, "target").await;
}

#[tokio::test]
async fn a_stream_survives_changes_of_its_circuit_and_ends_with_it_after_the_drain_time() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::from_millis(500)).await;
    let (peer, port) = (Peer::start().await, free_port());
    let mut circuit = stream(port, vec![peer.target()]);
    edge.serve(&circuit).await;
    let mut client = PeerConnection::connect(at(port)).await;
    let mut target = peer.accept().await;
    circuit.targets = vec![];
    edge.serve(&circuit).await;
    edge.registry.end_watches();
    edge.serve(&circuit).await;
    client.send("after changes").await;
    assert_eq!(target.exactly(13).await, b"after changes");
    edge.close(&circuit).await;
    assert!(TcpStream::connect(at(port)).await.is_err(), "a closed circuit takes nobody");
    client.send("while it drains").await;
    assert_eq!(target.exactly(15).await, b"while it drains");
    assert_eq!(client.until_end().await, b"");
    assert_eq!(target.until_end().await, b"");
    wait_for_ends(&edge, "cut").await;
}

#[tokio::test]
async fn a_stopping_edge_lets_a_stream_go_on_for_the_drain_time_and_no_longer() {
    let edge = TestEdge::start_with(|config| config.shutdown_drain = Duration::from_secs(2)).await;
    let (peer, port) = (Peer::start().await, free_port());
    edge.serve(&stream(port, vec![peer.target()])).await;
    let mut client = PeerConnection::connect(at(port)).await;
    let mut target = peer.accept().await;
    let stopping = tokio::spawn(edge.stop());
    client.send("still there").await;
    assert_eq!(target.exactly(11).await, b"still there");
    assert_eq!(client.until_end().await, b"");
    testkit::wait::within("the end of the edge", stopping).await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_come_and_go_and_leave_nothing() {
    let (edge, peer, port) = (TestEdge::start().await, Peer::start().await, free_port());
    edge.serve(&stream(port, vec![peer.target()])).await;
    for round in 0..10 {
        let mut open = Vec::new();
        for number in 0..100 {
            let mut client = PeerConnection::connect(at(port)).await;
            let mut target = peer.accept().await;
            client.send(format!("{round}-{number:02}")).await;
            assert_eq!(target.exactly(4).await, format!("{round}-{number:02}").as_bytes());
            open.push((client, target));
        }
    }
    edge.wait_for_no_connection().await;
    let ends = edge.metric("appproxy_edge_relay_ends_total{reason=\"finished\"}").await;
    assert_eq!(ends, 1_000.0);
}
