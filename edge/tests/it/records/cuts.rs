//! What is open when its circuit, its target or the edge ends.

use std::net::IpAddr;
use std::time::Duration;

use entities::circuit::Circuit;
use entities::target::Target;
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::raw::connect_from;
use testkit::wait::wait_until;

use super::{Case, bytes_circuit, case, provoke, request, sent, start_with};
use crate::harness::{TestEdge, at, by_host};
use crate::http2::by_http2;
use crate::peer::{Peer, PeerConnection};
use crate::tunnel::{AGREED, ASK};

/// One circuit of each kind, its target, and its port.
struct Circuits {
    circuits: [Circuit; 5],
    peers: [Peer; 4],
    origin: Http2Origin,
    calls_port: u16,
    stream_port: u16,
}

impl Circuits {
    async fn serve(edge: &TestEdge) -> Self {
        let peers = [Peer::start().await, Peer::start().await, Peer::start().await, Peer::start().await];
        let origin = Http2Origin::start("calls").await;
        let (calls, calls_port) = by_http2("calls", vec![origin.target()]);
        let (stream, stream_port) = bytes_circuit("stream", vec![peers[3].target()]);
        let [page, part, socket] = [("page", &peers[0]), ("part", &peers[1]), ("lab", &peers[2])]
            .map(|(name, peer)| by_host(name, vec![peer.target()]));
        let circuits = [page, part, socket, calls, stream];
        for circuit in &circuits {
            edge.serve(circuit).await;
        }
        Self { circuits, peers, origin, calls_port, stream_port }
    }

    /// Something open in each, which is cut.
    fn cases<'a>(&'a self, edge: &'a TestEdge) -> Vec<Case<'a>> {
        let Self { peers: [page, part, socket, stream], origin, calls_port, stream_port, .. } = self;
        vec![
            case("a request", &["http1 GET /work - page cut - 0/0 0"], async move |from| {
                let client = sent(from, edge, &request("GET", "page", "/work", "")).await;
                let mut target = page.accept().await;
                target.head().await;
                (client, target)
            }),
            case("an answer", &["http1 GET /part 200 part cut - 0/4 0"], async move |from| {
                let mut client = sent(from, edge, &request("GET", "part", "/part", "")).await;
                let mut target = part.accept().await;
                target.head().await;
                target.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
                client.head().await;
                assert_eq!(client.exactly(9).await, b"4\r\nhalf\r\n");
                (client, target)
            }),
            case("a stream of HTTP/2", &["http2 GET /hold - calls cut - 0/0 0"], async move |from| {
                let mut client = Http2Client::over(connect_from(from, at(*calls_port)).await).await;
                let held = client.begin(get("/hold"), true).await.expect("a stream");
                wait_until("the request", async || origin.requests().len() == 1).await;
                (client, held)
            }),
            case("a tunnel", &["upgraded GET /socket 101 lab cut - 4/* 0"], async move |from| {
                let mut client = sent(from, edge, ASK).await;
                let mut target = socket.accept().await;
                target.head().await;
                target.send(AGREED).await;
                client.head().await;
                pinged(client, target).await
            }),
            case("a byte stream", &["bytes - - - stream cut - 4/0 0"], async move |from: IpAddr| {
                let client = PeerConnection::connect_from(from, at(*stream_port)).await;
                pinged(client, stream.accept().await).await
            }),
        ]
    }
}

async fn pinged(client: PeerConnection, target: PeerConnection) -> (PeerConnection, PeerConnection) {
    let (mut client, mut target) = (client, target);
    client.send("ping").await;
    assert_eq!(target.exactly(4).await, b"ping");
    (client, target)
}

/// An edge that does not wait for what is open.
async fn hasty() -> (TestEdge, Circuits) {
    let edge = start_with(|config| {
        config.limits.drain = Duration::from_millis(50);
        config.shutdown_drain = Duration::from_millis(50);
    })
    .await;
    let circuits = Circuits::serve(&edge).await;
    (edge, circuits)
}

#[tokio::test]
async fn what_is_open_when_its_circuit_closes_is_cut_with_one_record() {
    let (edge, circuits) = hasty().await;
    let provoked = provoke(circuits.cases(&edge)).await;
    for circuit in &circuits.circuits {
        edge.close(circuit).await;
    }
    provoked.prove(edge).await;
}

#[tokio::test]
async fn what_is_open_when_its_target_is_removed_is_cut_with_one_record() {
    let (edge, circuits) = hasty().await;
    let provoked = provoke(circuits.cases(&edge)).await;
    for circuit in &circuits.circuits {
        let targets: Vec<Target> = Vec::new();
        edge.serve(&Circuit { targets, ..circuit.clone() }).await;
    }
    provoked.prove(edge).await;
}

#[tokio::test]
async fn what_is_open_when_the_edge_stops_is_cut_with_one_record() {
    let (edge, circuits) = hasty().await;
    let provoked = provoke(circuits.cases(&edge)).await;
    provoked.prove_after(edge.stop()).await;
}

#[tokio::test]
async fn what_is_open_when_the_edge_is_cancelled_is_cut_with_one_record() {
    let (edge, circuits) = hasty().await;
    let provoked = provoke(circuits.cases(&edge)).await;
    provoked.prove_after(edge.cancel()).await;
}

/// It has begun, so it is not over without a word.
#[tokio::test]
async fn a_head_that_has_begun_when_the_edge_stops_is_cut_with_one_record() {
    let (edge, _circuits) = hasty().await;
    let provoked = provoke(vec![case("a head", &["http1 - - - - cut - 0/0 0"], async |from| {
        let client = sent(from, &edge, "GET / HTTP/1.1\r\nHo").await;
        // Accepted after it, so the edge knows that one as well.
        edge.get("127.0.0.1", "/health").await;
        client
    })]);
    provoked.await.prove_after(edge.stop()).await;
}
