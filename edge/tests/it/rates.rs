//! Circuits that take requests at a limited rate.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use entities::circuit::{Backend, Circuit, Protocol};
use entities::rate::{Per, RateLimit, RequestRate};
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::{RawAnswer, RawClient, connect_from};

use crate::harness::{TestEdge, at, by_host, by_port};
use crate::peer::{Peer, PeerConnection};

pub(crate) fn limit(requests_per_s: f64, burst: u32, per: Per) -> Option<RateLimit> {
    let requests_per_s = RequestRate::new(requests_per_s).expect("a rate");
    Some(RateLimit { requests_per_s, burst, per })
}

fn local(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, number])
}

async fn ask(from: IpAddr, address: SocketAddr) -> RawAnswer {
    let mut client = RawClient::connect_from(from, address).await;
    client.get("/", "lab.apps.test").await
}

async fn statuses(edge: &TestEdge, from: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for number in from {
        statuses.push(ask(local(*number), edge.address).await.status);
    }
    statuses
}

async fn limited(rate_limit: Option<RateLimit>) -> (TestEdge, Origin, Circuit) {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let mut circuit = by_host("lab", vec![origin.target()]);
    circuit.traffic.rate_limit = rate_limit;
    edge.serve(&circuit).await;
    (edge, origin, circuit)
}

#[tokio::test]
async fn each_client_has_a_rate_of_its_own() {
    let (edge, origin, _) = limited(limit(0.01, 2, Per::Client)).await;
    assert_eq!(statuses(&edge, &[2, 2, 2, 3, 3, 3, 2]).await, [200, 200, 429, 200, 200, 429, 429]);
    assert_eq!(origin.requests().len(), 4, "nothing over the rate is forwarded");
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"rate_limit\"}").await, 3.0);
}

#[tokio::test]
async fn all_clients_may_share_one() {
    let (edge, origin, _) = limited(limit(0.01, 2, Per::Circuit)).await;
    assert_eq!(statuses(&edge, &[2, 3, 4, 2]).await, [200, 200, 429, 429]);
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_is_counted_by_itself() {
    let edge = TestEdge::start_with(|config| config.trusted_proxies = vec![local(2).into()]).await;
    let origin = Origin::start("lab").await;
    let mut circuit = by_host("lab", vec![origin.target()]);
    circuit.traffic.rate_limit = limit(0.01, 1, Per::Client);
    edge.serve(&circuit).await;
    let mut client = RawClient::connect_from(local(2), edge.address).await;
    for (address, status) in [("198.51.100.7", 200), ("198.51.100.7", 429), ("198.51.100.8", 200)] {
        client.send(format!("GET / HTTP/1.1\r\nHost: lab.apps.test\r\nX-Forwarded-For: {address}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status, "{address}");
    }
}

#[tokio::test]
async fn after_the_time_that_the_answer_names_the_next_request_is_taken() {
    let (edge, _origin, _) = limited(limit(0.5, 1, Per::Client)).await;
    assert_eq!(statuses(&edge, &[2]).await, [200]);
    let began = Instant::now();
    let answer = ask(local(2), edge.address).await;
    let retry_after_s: u64 = answer.field("retry-after").expect("a time").parse().expect("whole seconds");
    assert_eq!(answer.status, 429);
    assert!((1..=2).contains(&retry_after_s), "{retry_after_s}");
    assert!(answer.body.contains("too_many_requests"), "{}", answer.body);
    tokio::time::sleep_until((began + Duration::from_secs(retry_after_s)).into()).await;
    assert_eq!(statuses(&edge, &[2]).await, [200]);
}

#[tokio::test]
async fn a_change_that_leaves_the_rule_alone_leaves_the_counts_alone() {
    let (edge, origin, mut circuit) = limited(limit(0.01, 1, Per::Client)).await;
    assert_eq!(statuses(&edge, &[2, 2]).await, [200, 429]);
    circuit.targets.push(origin.target());
    edge.serve(&circuit).await;
    assert_eq!(statuses(&edge, &[2]).await, [429]);
    circuit.traffic.rate_limit = limit(0.01, 2, Per::Client);
    edge.serve(&circuit).await;
    assert_eq!(statuses(&edge, &[2, 2, 2]).await, [200, 200, 429]);
    circuit.traffic.rate_limit = None;
    edge.serve(&circuit).await;
    assert_eq!(statuses(&edge, &[2, 2, 2]).await, [200, 200, 200]);
}

#[tokio::test]
async fn an_upgrade_counts_and_a_call_of_grpc_hears_it_in_its_words() {
    let (edge, origin, _) = limited(limit(0.01, 1, Per::Client)).await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for status in [101, 429] {
        let mut client = RawClient::connect(edge.address).await;
        client.send(upgrade).await;
        assert_eq!(client.head().await.status, status);
    }
    assert_eq!(origin.requests().len(), 1);

    let (origin, port) = (Http2Origin::start("calls").await, free_port());
    let mut circuit = by_port("calls", port, vec![origin.target()]);
    (circuit.protocol, circuit.backend) = (Protocol::Grpc, Backend::H2);
    circuit.traffic.rate_limit = limit(0.01, 1, Per::Circuit);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    assert_eq!(client.ask(get("/")).await.expect("answered").status, 200);
    let mut call = get("/");
    call.headers_mut().insert("content-type", "application/grpc".parse().expect("valid"));
    let answer = client.ask(call).await.expect("answered");
    assert_eq!((answer.status.as_u16(), answer.headers["grpc-status"].as_bytes()), (200, &b"8"[..]));
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn new_byte_streams_over_the_rate_are_reset_and_open_ones_are_left_alone() {
    let (edge, peer, port) = (TestEdge::start().await, Peer::start().await, free_port());
    let mut circuit = by_port("stream", port, vec![peer.target()]);
    (circuit.protocol, circuit.backend) = (Protocol::Tcp, Backend::Tcp);
    circuit.traffic.rate_limit = limit(0.01, 1, Per::Client);
    edge.serve(&circuit).await;
    let connect =
        async |number| PeerConnection { stream: connect_from(local(number), at(port)).await, read_ahead: vec![] };
    let mut first = connect(2).await;
    let mut target = peer.accept().await;
    let mut second = connect(2).await;
    assert_eq!(second.until_end().await, b"");
    first.send("still here").await;
    assert_eq!(target.exactly(10).await, b"still here");
    let mut other = connect(3).await;
    other.send("another client").await;
    assert_eq!(peer.accept().await.exactly(14).await, b"another client");
}
