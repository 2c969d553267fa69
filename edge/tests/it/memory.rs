//! An edge that runs out of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edge::Config;
use entities::circuit::{Backend, Protocol};
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;
use testkit::wait::wait_until;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, at, by_host, by_port};
use crate::peer::{Peer, PeerConnection};

/// An edge with a ceiling of 1,000 bytes, and what it believes to take.
pub(crate) async fn start() -> (TestEdge, Arc<AtomicU64>) {
    start_with(|_| {}).await
}

/// The same, with settings changed.
pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> (TestEdge, Arc<AtomicU64>) {
    let resident = Arc::new(AtomicU64::new(100));
    let read = Arc::clone(&resident);
    let edge = TestEdge::start_with(|config| {
        config.memory.ceiling_bytes = Some(1_000);
        config.memory.check_interval = Duration::from_millis(5);
        config.memory.resident = Arc::new(move || Some(read.load(Ordering::SeqCst)));
        change(config);
    })
    .await;
    (edge, resident)
}

/// Waits until the edge has seen this.
pub(crate) async fn become_resident(edge: &TestEdge, resident: &AtomicU64, bytes: u64) {
    resident.store(bytes, Ordering::SeqCst);
    let bytes = bytes as f64;
    wait_until("the edge looks", async || edge.metric("appproxy_edge_resident_bytes").await == bytes).await;
}

#[tokio::test]
async fn near_the_ceiling_new_connections_are_turned_away_and_open_ones_go_on() {
    let (edge, resident) = start().await;
    let (origin, calls, peer) = (Origin::start("lab").await, Http2Origin::start("calls").await, Peer::start().await);
    let (h2_port, tcp_port) = (free_port(), free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut circuit = by_port("calls", h2_port, vec![calls.target()]);
    (circuit.protocol, circuit.backend) = (Protocol::H2, Backend::H2);
    edge.serve(&circuit).await;
    let mut circuit = by_port("stream", tcp_port, vec![peer.target()]);
    (circuit.protocol, circuit.backend) = (Protocol::Tcp, Backend::Tcp);
    edge.serve(&circuit).await;

    let mut kept = RawClient::connect(edge.address).await;
    assert_eq!(kept.get("/", "lab.apps.test").await.status, 200);
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("opens");
    let mut streams = Http2Client::connect(at(h2_port)).await;
    assert_eq!(streams.ask(get("/")).await.expect("answered").status, 200);
    let mut bytes = PeerConnection::connect(at(tcp_port)).await;
    let mut target = peer.accept().await;

    become_resident(&edge, &resident, 900).await;
    assert_eq!(edge.metric("appproxy_edge_shedding").await, 1.0);
    let ready = edge.get("127.0.0.1", "/health/readyz").await;
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.expect("JSON").contains("shedding"));
    assert_eq!(edge.get("127.0.0.1", "/health/livez").await.status(), 200);

    let forwarded = origin.requests().len();
    let mut late = RawClient::connect(edge.address).await;
    let answer = late.get("/", "lab.apps.test").await;
    assert_eq!(
        (answer.status, answer.field("retry-after"), answer.field("connection")),
        (503, Some("5"), Some("close"))
    );
    assert!(answer.body.contains("overloaded"), "{}", answer.body);
    late.wait_for_end().await;
    let mut late = Http2Client::connect(at(h2_port)).await;
    assert_eq!(late.ask(get("/")).await.expect("answered").status, 503);
    late.wait_for_end().await.expect("an orderly end");
    assert_eq!(PeerConnection::connect(at(tcp_port)).await.until_end().await, b"");
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"memory\"}").await, 3.0);
    assert_eq!((origin.requests().len(), calls.requests().len()), (forwarded, 1));

    assert_eq!(socket.echo("still here").await.as_deref(), Some("still here"));
    bytes.send("still here").await;
    assert_eq!(target.exactly(10).await, b"still here");
    assert_eq!(streams.ask(get("/")).await.expect("answered").status, 200);
    let last = kept.get("/", "lab.apps.test").await;
    assert_eq!((last.status, last.field("connection")), (200, Some("close")));
    kept.wait_for_end().await;

    become_resident(&edge, &resident, 860).await;
    assert_eq!(edge.metric("appproxy_edge_shedding").await, 1.0, "not yet");
    become_resident(&edge, &resident, 840).await;
    assert_eq!(edge.get("127.0.0.1", "/health/readyz").await.status(), 200);
    let mut client = RawClient::connect(edge.address).await;
    let answer = client.get("/", "lab.apps.test").await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    become_resident(&edge, &resident, 700).await;
    let mut client = RawClient::connect(edge.address).await;
    for _ in 0..2 {
        assert_eq!(client.get("/", "lab.apps.test").await.status, 200);
    }
}

#[tokio::test]
async fn a_connection_that_is_turned_away_is_not_waited_for() {
    let (edge, resident) = start().await;
    become_resident(&edge, &resident, 950).await;
    let mut silent = RawClient::connect(edge.address).await;
    let began = std::time::Instant::now();
    silent.wait_for_end().await;
    assert!(began.elapsed() >= Duration::from_secs(1), "it may send its request");
}

#[tokio::test]
async fn without_a_ceiling_nothing_is_turned_away() {
    let edge = TestEdge::start().await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    wait_until("the edge looks", async || edge.metric("appproxy_edge_resident_bytes").await > 0.0).await;
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 200);
    assert_eq!(edge.metric("appproxy_edge_memory_ceiling_bytes").await, 0.0);
}
