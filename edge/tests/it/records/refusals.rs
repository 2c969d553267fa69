//! What is turned away, and what the edge answers itself.

use entities::rate::Per;
use testkit::origin::Origin;

use super::{SECRET, asked, case, peer_at, provoke, request, sent, start_with};
use crate::access::{Guarded, private};
use crate::harness::{at, by_host};
use crate::rates::limit;

#[tokio::test]
async fn what_a_circuit_does_not_admit_has_one_record_that_shows_no_secret() {
    let guarded = Guarded::start().await;
    let origin = Origin::start("lab").await;
    origin.answer("/", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour");
    let mut lab = private("lab", vec![origin.target()]);
    lab.access.login_url = Some("https://manager.test/open".to_owned());
    let mut far = private("far", vec![origin.target()]);
    far.access.allowed_clients = vec!["10.0.0.0/8".parse().expect("valid")];
    guarded.edge.serve(&lab).await;
    guarded.edge.serve(&far).await;
    let edge = &guarded.edge;
    let (ticket, cookie) = (guarded.ticket(&lab), guarded.cookie(&lab, "lab").await);
    let (token, far_token) = (guarded.token(&lab), guarded.token(&far));
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let far_bearer = format!("Authorization: Bearer {far_token}\r\n");
    let exchange = |ticket: &str| format!("GET /.appproxy/ticket?t={ticket} HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n");
    let navigation = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let provoked = provoke(vec![
        case("admitted", &["http1 GET / 200 lab finished - 0/4 0"], async |from| {
            asked(from, edge, &request("GET", "lab", "/", &bearer)).await
        }),
        case("no credential", &["http1 GET / 401 lab refused client 0/* 0"], async |from| {
            asked(from, edge, &request("GET", "lab", "/", "")).await
        }),
        case("bad credential", &["http1 GET / 401 lab refused client 0/* 0"], async |from| {
            asked(from, edge, &request("GET", "lab", "/", &format!("Authorization: Bearer {SECRET}\r\n"))).await
        }),
        case("led to the login", &["http1 GET / 303 lab refused client 0/0 0"], async |from| {
            asked(from, edge, &request("GET", "lab", "/", navigation)).await
        }),
        case("a ticket exchanged", &["http1 GET /.appproxy/ticket 303 lab answered - 0/0 0"], async |from| {
            asked(from, edge, &exchange(&ticket)).await
        }),
        case("a bad ticket", &["http1 GET /.appproxy/ticket 401 lab refused client 0/* 0"], async |from| {
            asked(from, edge, &exchange(SECRET)).await
        }),
        case("another path of the edge", &["http1 GET /.appproxy/x 404 lab refused client 0/* 0"], async |from| {
            asked(from, edge, &request("GET", "lab", "/.appproxy/x", &bearer)).await
        }),
        case("another site's page", &["http1 GET / 403 lab refused client 0/* 0"], async |from| {
            let fields = format!("Cookie: {cookie}\r\nOrigin: https://evil.test\r\n");
            asked(from, edge, &request("GET", "lab", "/", &fields)).await
        }),
        case("an address that is not allowed", &["http1 GET / 403 far refused client 0/* 0"], async |from| {
            asked(from, edge, &request("GET", "far", "/", &far_bearer)).await
        }),
    ]);
    let provoked = provoked.await;
    let (_, pass) = cookie.split_once('=').expect("a pair");
    provoked.show_no(&[&ticket, pass, &token, &far_token]).await;
    provoked.prove(guarded.edge).await;
}

#[tokio::test]
async fn what_finds_no_circuit_or_asks_the_edge_itself_has_one_record() {
    let edge = start_with(|_| {}).await;
    let provoked = provoke(vec![
        case("an unknown host", &["http1 GET /a 404 - refused client 0/* 0"], async |from| {
            asked(from, &edge, &request("GET", "nobody", "/a", "")).await
        }),
        case("a call of gRPC there", &["http1 POST /a 200 - refused client 0/0 0"], async |from| {
            let fields = "Content-Type: application/grpc\r\nContent-Length: 0\r\n";
            asked(from, &edge, &request("POST", "nobody", "/a", fields)).await
        }),
        case("the worker API", &["http1 GET /health 200 - answered - 0/* 0"], async |from| {
            asked(from, &edge, &format!("GET /health?{SECRET} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).await
        }),
        case("the worker API without its key", &["http1 GET /v2/sync 401 - answered - 0/* 0"], async |from| {
            asked(from, &edge, &format!("GET /v2/sync?{SECRET} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).await
        }),
        case("more than the rate", &["http1 GET / 429 often refused client 0/* 0"], async |from| {
            let peer = peer_at(&edge, "often", |circuit| circuit.traffic.rate_limit = limit(0.01, 1, Per::Circuit));
            let peer = peer.await;
            let first = sent(at(0).ip(), &edge, &request("GET", "often", "/", "")).await;
            peer.accept().await.head().await;
            (asked(from, &edge, &request("GET", "often", "/", "")).await, first, peer)
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_circuit_that_is_full_turns_away_with_one_record() {
    let edge = start_with(|config| config.client.max_open_per_circuit = 1).await;
    let provoked = provoke(vec![case("full", &["http1 GET / 503 lab refused client 0/* 0"], async |from| {
        let peer = peer_at(&edge, "lab", |_| {}).await;
        let first = sent(at(0).ip(), &edge, &request("GET", "lab", "/", "")).await;
        let mut target = peer.accept().await;
        target.head().await;
        (asked(from, &edge, &request("GET", "lab", "/", "")).await, first, target)
    })]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_circuit_that_nobody_confirms_turns_away_with_one_record() {
    let edge = start_with(|config| config.max_staleness_public = std::time::Duration::from_millis(100)).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let (stream, port) = super::bytes_circuit("stream", vec![origin.target()]);
    edge.serve(&stream).await;
    edge.line.take_away();
    let is_lapsed = async || edge.get("lab.apps.test", "/").await.status() == 503;
    testkit::wait::wait_until("the circuit to be unconfirmed", is_lapsed).await;
    let provoked = provoke(vec![
        case("a request", &["http1 GET / 503 lab refused edge 0/* 0"], async |from| {
            asked(from, &edge, &request("GET", "lab", "/", "")).await
        }),
        case("a byte stream", &["bytes - - - stream refused edge 0/0 0"], async |from| {
            super::turned_away(from, port).await
        }),
    ]);
    provoked.await.prove(edge).await;
}
