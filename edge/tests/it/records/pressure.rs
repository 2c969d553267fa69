//! What is turned away because there is too much of it.

use std::net::IpAddr;

use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::raw::connect_from;

use super::{asked, bytes_circuit, case, provoke, request, start_with, turned_away};
use crate::harness::{TestEdge, at, by_host};
use crate::http2::by_http2;
use crate::memory;
use crate::peer::{Peer, PeerConnection};

/// Where each kind of circuit is.
struct Ports {
    calls: u16,
    stream: u16,
    _targets: (Origin, Http2Origin, Peer),
}

async fn serve(edge: &TestEdge) -> Ports {
    let (origin, calls, peer) = (Origin::start("lab").await, Http2Origin::start("calls").await, Peer::start().await);
    let (h2_circuit, calls_port) = by_http2("calls", vec![calls.target()]);
    let (circuit, stream_port) = bytes_circuit("stream", vec![peer.target()]);
    for circuit in [&by_host("lab", vec![origin.target()]), &h2_circuit, &circuit] {
        edge.serve(circuit).await;
    }
    Ports { calls: calls_port, stream: stream_port, _targets: (origin, calls, peer) }
}

#[tokio::test]
async fn what_is_shed_has_one_record() {
    let (edge, resident) = memory::start().await;
    let Ports { calls, stream, _targets } = serve(&edge).await;
    memory::become_resident(&edge, &resident, 900).await;
    let provoked = provoke(vec![
        case("a request", &["http1 GET / 503 lab refused edge 0/* 0"], async |from| {
            asked(from, &edge, &request("GET", "lab", "/", "")).await
        }),
        case("a stream of HTTP/2", &["http2 GET / 503 calls refused edge 0/* 0"], async |from| {
            let mut client = Http2Client::over(connect_from(from, at(calls)).await).await;
            client.ask(get("/")).await.expect("answered");
            client
        }),
        case("a byte stream", &["bytes - - - - refused edge 0/0 0"], async |from| turned_away(from, stream).await),
        case("a connection that brings nothing", &[], async |from| {
            PeerConnection::connect_from(from, edge.address).await.until_end().await
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_client_with_too_many_connections_has_one_record_for_each_that_is_turned_away() {
    let edge = start_with(|config| {
        config.client.max_connections_per_client = 1;
        config.uncounted_clients = vec![at(0).ip().into()];
    })
    .await;
    let Ports { calls, stream, _targets } = serve(&edge).await;
    // Its one connection; that it was answered says that it is counted.
    let first = async |from: IpAddr| asked(from, &edge, &request("GET", "nobody", "/", "")).await;
    let served = "http1 GET / 404 - refused client 0/* 0";
    let provoked = provoke(vec![
        case("a request", &[served, "none - - 429 - refused client 0/* 0"], async |from| {
            let held = first(from).await;
            (asked(from, &edge, &request("GET", "lab", "/", "")).await, held)
        }),
        case("a stream of HTTP/2", &[served, "http2 - - - - refused client 0/0 0"], async |from| {
            let held = first(from).await;
            let mut client = Http2Client::over(connect_from(from, at(calls)).await).await;
            client.ask(get("/")).await.expect_err("GOAWAY");
            held
        }),
        case("a byte stream", &[served, "bytes - - - - refused client 0/0 0"], async |from| {
            let held = first(from).await;
            (turned_away(from, stream).await, held)
        }),
    ]);
    provoked.await.prove(edge).await;
}
