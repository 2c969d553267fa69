//! How much one client, one circuit and one connection may have.

use entities::circuit::{Backend, Circuit, Protocol};
use http::Request;
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;
use testkit::wait::{wait_until, within};
use testkit::websocket::WebSocket;
use tokio::io::AsyncReadExt as _;

use super::{OTHER, connect_from};
use crate::harness::{TestEdge, at, by_host, by_port};
use crate::http2::by_http2;
use crate::peer::{Peer, PeerConnection, field};

const REFUSED_CLIENTS: &str = "appproxy_edge_refusals_total{reason=\"client_connections\"}";
const REFUSED_BY_CIRCUIT: &str = "appproxy_edge_refusals_total{reason=\"circuit_connections\"}";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

async fn other(address: std::net::SocketAddr) -> PeerConnection {
    PeerConnection { stream: connect_from(OTHER, address).await, read_ahead: Vec::new() }
}

/// Whether a new connection of the other client is served, asked as long as it takes.
async fn wait_for_room(address: std::net::SocketAddr) {
    wait_until("a place", async || {
        let mut client = other(address).await;
        client.send("GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
        client.head().await.starts_with("HTTP/1.1 200 ")
    })
    .await;
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_gets_its_places_back() {
    let edge = TestEdge::start_with(|config| config.client.max_connections_per_client = 3).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    // One is silent, one is idle after a request, one has become a tunnel.
    let silent = other(edge.address).await;
    let mut idle = other(edge.address).await;
    idle.send("GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    assert!(idle.head().await.starts_with("HTTP/1.1 200 "));
    let mut tunnel = other(edge.address).await;
    tunnel.send(UPGRADE).await;
    assert!(tunnel.head().await.starts_with("HTTP/1.1 101 "));

    let mut fourth = other(edge.address).await;
    let head = fourth.head().await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert_eq!(field(&head, "retry-after"), Some("5"));
    assert_eq!(field(&head, "connection"), Some("close"));
    assert_eq!(edge.metric(REFUSED_CLIENTS).await, 1.0, "others are served");

    drop(fourth);
    for held in [silent, idle, tunnel] {
        drop(held);
        wait_for_room(edge.address).await;
    }
}

#[tokio::test]
async fn places_are_counted_over_all_kinds_of_listeners() {
    let edge = TestEdge::start_with(|config| config.client.max_connections_per_client = 2).await;
    let (peer, origin) = (Peer::start().await, Http2Origin::start("lab").await);
    let (bytes, plain) = (free_port(), free_port());
    let stream = by_port("bytes", bytes, vec![peer.target()]);
    edge.serve(&Circuit { protocol: Protocol::Tcp, backend: Backend::Tcp, ..stream }).await;
    edge.serve(&by_port("plain", plain, vec![])).await;
    let (circuit, http2) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;

    let relayed = other(at(bytes)).await;
    let target = peer.accept().await;
    let _silent = other(at(plain)).await;
    // Until the second one is accepted as well.
    wait_until("both places to be taken", async || edge.metric("appproxy_edge_connections_open").await == 3.0).await;

    assert!(other(at(plain)).await.head().await.starts_with("HTTP/1.1 429 "));
    let mut reset = other(at(bytes)).await;
    within("a reset", reset.stream.read_u8()).await.expect_err("no byte");
    let mut by_http1 = other(at(http2)).await;
    by_http1.send("GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    assert!(by_http1.head().await.starts_with("HTTP/1.1 429 "));
    let mut by_http2 = Http2Client::over(connect_from(OTHER, at(http2)).await).await;
    let error = by_http2.ask(get("/")).await.expect_err("GOAWAY");
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    assert_eq!(edge.metric(REFUSED_CLIENTS).await, 4.0);

    drop((relayed, target));
    wait_until("a place", async || {
        let mut client = Http2Client::over(connect_from(OTHER, at(http2)).await).await;
        client.ask(get("/")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_not_counted_has_any_number() {
    let edge = TestEdge::start_with(|config| {
        config.client.max_connections_per_client = 1;
        config.uncounted_clients = vec!["127.0.0.2/32".parse().expect("a range")];
    })
    .await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut client = other(edge.address).await;
        client.send("GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        held.push(client);
    }
}

#[tokio::test]
async fn a_circuit_has_so_much_open_and_others_have_room() {
    let edge = TestEdge::start_with(|config| config.client.max_open_per_circuit = 2).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.serve(&by_host("other", vec![origin.target()])).await;
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("a WebSocket");
    let mut slow = RawClient::connect(edge.address).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    wait_until("the slow request", async || origin.count("/slow") == 1).await;

    let mut third = RawClient::connect(edge.address).await;
    let answer = third.get("/third", "lab.apps.test").await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
    assert!(answer.body.contains("circuit_connections"), "{}", answer.body);
    let mut upgrade = RawClient::connect(edge.address).await;
    upgrade.send(UPGRADE).await;
    assert_eq!(upgrade.answer().await.status, 503);
    assert_eq!(origin.count("/third") + origin.count("/ws"), 1, "nothing but the first WebSocket");
    assert_eq!(edge.metric(REFUSED_BY_CIRCUIT).await, 2.0);
    assert_eq!(third.get("/", "other.apps.test").await.status, 200, "the connection goes on");

    assert_eq!(socket.echo("still here").await.as_deref(), Some("still here"));
    drop(socket);
    wait_until("room", async || {
        RawClient::connect(edge.address).await.get("/third", "lab.apps.test").await.status == 200
    })
    .await;
    origin.release();
    assert_eq!(slow.answer().await.status, 200);
}

#[tokio::test]
async fn streams_of_http2_and_byte_streams_of_a_circuit_are_counted_as_well() {
    let edge = TestEdge::start_with(|config| config.client.max_open_per_circuit = 1).await;
    let (peer, origin, bytes) = (Peer::start().await, Http2Origin::start("lab").await, free_port());
    let stream = by_port("bytes", bytes, vec![peer.target()]);
    edge.serve(&Circuit { protocol: Protocol::Tcp, backend: Backend::Tcp, ..stream }).await;
    let (circuit, http2) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;

    let relayed = PeerConnection::connect(at(bytes)).await;
    let target = peer.accept().await;
    let mut second = PeerConnection::connect(at(bytes)).await;
    within("a reset", second.stream.read_u8()).await.expect_err("no byte");
    drop((relayed, target));
    wait_until("room", async || {
        let mut next = PeerConnection::connect(at(bytes)).await;
        // One that is refused is reset; one that is relayed is silent.
        tokio::time::timeout(std::time::Duration::from_millis(100), next.stream.read_u8()).await.is_err()
    })
    .await;

    let mut client = Http2Client::connect(at(http2)).await;
    let (held, _) = client.begin(get("/hold"), true).await.expect("a stream");
    wait_until("the request", async || origin.requests().len() == 1).await;
    assert_eq!(client.ask(get("/")).await.expect("answered").status, 503);
    let call = Request::post("http://app.test/").header("content-type", "application/grpc").body(()).expect("valid");
    assert_eq!(client.ask(call).await.expect("answered").headers["grpc-status"], "14");
    origin.release(1);
    assert_eq!(Http2Client::read(held).await.expect("answered").body, "held");
    assert_eq!(client.ask(get("/")).await.expect("answered").status, 200);
}

#[tokio::test]
async fn a_connection_is_closed_after_its_last_request_and_nothing_is_lost() {
    let edge = TestEdge::start_with(|config| config.client.max_requests = 3).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut client = RawClient::connect(edge.address).await;
    for number in 1..=3 {
        let answer = client.get("/", "lab.apps.test").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("connection").is_some_and(|value| value == "close"), number == 3, "{}", answer.head);
    }
    client.wait_for_end().await;
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn a_connection_of_http2_says_goaway_after_its_last_stream_and_nothing_is_lost() {
    let edge = TestEdge::start_with(|config| config.client.max_requests = 3).await;
    let origin = Http2Origin::start("lab").await;
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let (held, _) = client.begin(get("/hold"), true).await.expect("a stream");
    assert_eq!(client.ask(get("/")).await.expect("answered").body, "lab");
    assert_eq!(client.ask(get("/")).await.expect("answered").body, "lab");
    wait_until("GOAWAY", async || client.begin(get("/"), true).await.is_err()).await;
    origin.release(1);
    assert_eq!(Http2Client::read(held).await.expect("answered").body, "held");
    client.wait_for_end().await.expect("GOAWAY without an error");
}
