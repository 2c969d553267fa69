//! Connections that a proxy in front of the edge introduces by the PROXY protocol.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use edge::Config;
use entities::circuit::{Backend, Circuit, Protocol, ProxyProtocol};
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::{RawClient, connect_from};
use testkit::wait::wait_until;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{TestEdge, at, by_host, by_port};
use crate::peer::{Peer, PeerConnection};

pub(crate) const VERSION_1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n";
pub(crate) const VERSION_2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x10\xc6\x33\x64\x07\xcb\x00\x71\x01\x12\x67\x01\xbb\x04\x00\x01\x00";
pub(crate) const REFUSED: &str = "appproxy_edge_refusals_total{reason=\"proxy_protocol\"}";

pub(crate) fn introducing(config: &mut Config) {
    config.proxy_protocol_from = vec!["127.0.0.2".parse().expect("valid")];
    config.trusted_proxies = vec!["198.51.100.7".parse().expect("valid")];
}

pub(crate) fn proxy() -> IpAddr {
    IpAddr::from([127, 0, 0, 2])
}

fn h2(port: u16, origin: &Http2Origin) -> Circuit {
    Circuit { protocol: Protocol::H2, backend: Backend::H2, ..by_port("calls", port, vec![origin.target()]) }
}

fn stream(port: u16, peer: &Peer) -> Circuit {
    Circuit { protocol: Protocol::Tcp, backend: Backend::Tcp, ..by_port("stream", port, vec![peer.target()]) }
}

#[tokio::test]
async fn the_address_in_the_header_is_the_clients_on_every_kind_of_port() {
    let edge = TestEdge::start_with(introducing).await;
    let (origin, calls, peer) = (Origin::start("lab").await, Http2Origin::start("calls").await, Peer::start().await);
    let (http_port, h2_port, tcp_port) = (free_port(), free_port(), free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.serve(&by_port("page", http_port, vec![origin.target()])).await;
    edge.serve(&h2(h2_port, &calls)).await;
    let mut bytes = stream(tcp_port, &peer);
    bytes.traffic.proxy_protocol = Some(ProxyProtocol::V1);
    edge.serve(&bytes).await;
    for header in [VERSION_1, VERSION_2] {
        for address in [edge.address, at(http_port)] {
            let mut client = RawClient::connect_from(proxy(), address).await;
            // In one segment: what follows the header is a request.
            client.send([header, b"GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n"].concat()).await;
            assert_eq!(client.answer().await.status, 200);
            let request = origin.requests().pop().expect("it arrived");
            assert_eq!(request.header_all("x-forwarded-for"), ["198.51.100.7"]);
        }
        let mut socket = connect_from(proxy(), at(h2_port)).await;
        socket.write_all(header).await.expect("sends");
        let mut client = Http2Client::over(socket).await;
        assert_eq!(client.ask(get("/")).await.expect("answered").status, 200);
        assert_eq!(calls.requests().pop().expect("it arrived").headers["x-forwarded-for"], "198.51.100.7");

        let socket = connect_from(proxy(), at(tcp_port)).await;
        let mut client = PeerConnection { stream: socket, read_ahead: Vec::new() };
        client.send([header, b"hello"].concat()).await;
        let wanted = [VERSION_1, b"hello"].concat();
        assert_eq!(peer.accept().await.exactly(wanted.len()).await, wanted);
    }
    assert_eq!(edge.metric(REFUSED).await, 0.0);
}

#[tokio::test]
async fn whom_a_connection_is_introduced_for_may_be_a_trusted_proxy_itself() {
    let (edge, origin) = (TestEdge::start_with(introducing).await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let request = b"GET / HTTP/1.1\r\nHost: lab.apps.test\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n";
    for (header, wanted) in [
        (VERSION_1, "192.0.2.9"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", "2001:db8::7"),
        // The proxy's own connection, and one of which it knows nothing.
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.2"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.2"),
    ] {
        let mut client = RawClient::connect_from(proxy(), edge.address).await;
        client.send([header, request].concat()).await;
        assert_eq!(client.answer().await.status, 200);
        let arrived = origin.requests().pop().expect("it arrived");
        assert_eq!(arrived.header_all("x-forwarded-for"), [wanted], "{}", header.escape_ascii());
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_introduce_its_connection_is_turned_away() {
    let edge = TestEdge::start_with(introducing).await;
    let (origin, calls, peer) = (Origin::start("lab").await, Http2Origin::start("calls").await, Peer::start().await);
    let (http_port, h2_port, tcp_port) = (free_port(), free_port(), free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.serve(&by_port("page", http_port, vec![origin.target()])).await;
    edge.serve(&h2(h2_port, &calls)).await;
    edge.serve(&stream(tcp_port, &peer)).await;
    let mut refused = 0.0;
    for address in [edge.address, at(http_port), at(h2_port), at(tcp_port)] {
        for start in [
            &b"GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 99999\r\nGET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        ] {
            let mut client = RawClient::connect_from(proxy(), address).await;
            client.send(start).await;
            assert_eq!(client.try_answer().await, None, "{address} {}", start.escape_ascii());
            refused += 1.0;
        }
    }
    assert_eq!(edge.metric(REFUSED).await, refused);
    assert!(origin.requests().is_empty() && calls.requests().is_empty());
    // Nothing has connected to the target of bytes: the first connection there is one that may.
    let mut client = PeerConnection::connect(at(tcp_port)).await;
    client.send("first").await;
    assert_eq!(peer.accept().await.exactly(5).await, b"first");
}

#[tokio::test]
async fn a_header_that_does_not_end_is_not_waited_for() {
    let edge = TestEdge::start_with(|config| {
        introducing(config);
        config.client.head = Duration::from_millis(300);
    })
    .await;
    let (peer, port) = (Peer::start().await, free_port());
    edge.serve(&stream(port, &peer)).await;
    for address in [edge.address, at(port)] {
        for start in [&b""[..], b"PROXY TCP4 198", b"\r\n\r\n\0\r\nQUIT\n\x21"] {
            let mut client = RawClient::connect_from(proxy(), address).await;
            client.send(start).await;
            client.wait_for_end().await;
        }
    }
    wait_until("all are counted", async || edge.metric(REFUSED).await == 6.0).await;
    edge.wait_for_no_connection().await;
}

#[tokio::test]
async fn a_header_from_anybody_else_is_no_http_and_no_introduction() {
    let edge = TestEdge::start_with(introducing).await;
    let (origin, peer, port) = (Origin::start("lab").await, Peer::start().await, free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut bytes = stream(port, &peer);
    bytes.traffic.proxy_protocol = Some(ProxyProtocol::V1);
    edge.serve(&bytes).await;
    let mut client = RawClient::connect(edge.address).await;
    client.send([VERSION_1, b"GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n"].concat()).await;
    assert_eq!(client.answer().await.status, 400);
    assert!(origin.requests().is_empty());
    let mut client = PeerConnection::connect(at(port)).await;
    client.send(VERSION_1).await;
    let own: SocketAddr = client.stream.local_addr().expect("bound");
    let wanted = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {port}\r\n", own.port());
    assert_eq!(peer.accept().await.exactly(wanted.len()).await, wanted.as_bytes());
}

#[tokio::test]
async fn an_edge_that_stops_does_not_wait_for_an_introduction() {
    let edge = TestEdge::start_with(|config| {
        introducing(config);
        config.shutdown_drain = Duration::from_millis(100);
    })
    .await;
    let mut client = RawClient::connect_from(proxy(), edge.address).await;
    client.send("PROXY ").await;
    wait_until("the edge has it", async || edge.metric("appproxy_edge_connections_open").await >= 2.0).await;
    let began = std::time::Instant::now();
    edge.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    client.wait_for_end().await;
}
