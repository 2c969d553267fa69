//! How requests of HTTP/1 end that their client breaks off, delays or gets wrong.

use std::time::Duration;

use testkit::raw::unread_bytes;
use testkit::wait::wait_until;
use tokio::io::AsyncWriteExt as _;

use super::{SECRET, case, peer_at, provoke, request, sent, start_with};
use crate::harness::{TestEdge, WORKER_KEY};
use crate::peer::PeerConnection;

/// A client from `from` that has sent these bytes and whatever is answered was read to its end.
async fn told(from: std::net::IpAddr, edge: &TestEdge, bytes: impl AsRef<[u8]>) -> PeerConnection {
    let mut client = PeerConnection::connect_from(from, edge.address).await;
    client.send(bytes).await;
    client.until_end().await;
    client
}

#[tokio::test]
async fn what_is_no_request_has_one_record_and_a_silent_connection_none() {
    let edge = start_with(|config| config.client.head = Duration::from_millis(300)).await;
    let provoked = provoke(vec![
        case("never a byte", &[], async |from| drop(PeerConnection::connect_from(from, edge.address).await)),
        case("gone inside a head", &["http1 - - - - client client 0/0 0"], async |from| {
            drop(sent(from, &edge, "GET / HTTP/1.1\r\nHo").await);
        }),
        case("a head that does not end", &["http1 - - 408 - client client 0/* 0"], async |from| {
            told(from, &edge, "GET / HTTP/1.1\r\nHo").await
        }),
        case("malformed", &["http1 - - 400 - refused client 0/* 0"], async |from| {
            told(from, &edge, "GET / HTTP/1.1\r\nHost: a.test\r\n folded\r\n\r\n").await
        }),
        case("not HTTP", &["http1 - - 400 - refused client 0/* 0"], async |from| {
            told(from, &edge, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await
        }),
        case("CONNECT", &["http1 - - 501 - refused client 0/* 0"], async |from| {
            told(from, &edge, "CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\n\r\n").await
        }),
        case("too large", &["http1 - - 431 - refused client 0/* 0"], async |from| {
            told(from, &edge, format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(64 * 1024))).await
        }),
        case("no Host", &["http1 - - 400 - refused client 0/* 0"], async |from| {
            told(from, &edge, "GET / HTTP/1.1\r\n\r\n").await
        }),
        case("no Host in HTTP/1.0", &["http1 GET / 404 - refused client 0/* 0"], async |from| {
            told(from, &edge, format!("GET /?t={SECRET} HTTP/1.0\r\n\r\n")).await
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_client_that_leaves_has_one_record_that_names_it() {
    let edge = start_with(|_| {}).await;
    let provoked = provoke(vec![
        case("while the target works", &["http1 GET /work - works client client 0/0 0"], async |from| {
            let peer = peer_at(&edge, "works", |_| {}).await;
            let client = sent(from, &edge, &request("GET", "works", "/work", "")).await;
            let mut target = peer.accept().await;
            target.head().await;
            drop(client);
            target
        }),
        case("with a reset", &["http1 GET /work - resets client client 0/0 0"], async |from| {
            let peer = peer_at(&edge, "resets", |_| {}).await;
            let client = sent(from, &edge, &request("GET", "resets", "/work", "")).await;
            let mut target = peer.accept().await;
            target.head().await;
            client.reset();
            target
        }),
        case("after it was told to go on", &["http1 POST / - continues client client 0/0 0"], async |from| {
            let peer = peer_at(&edge, "continues", |_| {}).await;
            let fields = "Content-Length: 4\r\nExpect: 100-continue\r\n";
            let mut client = sent(from, &edge, &request("POST", "continues", "/", fields)).await;
            let mut target = peer.accept().await;
            target.head().await;
            target.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            client.head().await;
            drop(client);
            target
        }),
        case("inside its content", &["http1 POST / - uploads client client 4/0 0"], async |from| {
            let peer = peer_at(&edge, "uploads", |_| {}).await;
            let post = request("POST", "uploads", "/", "Content-Length: 20\r\n");
            let client = sent(from, &edge, &format!("{post}half")).await;
            let mut target = peer.accept().await;
            target.head().await;
            assert_eq!(target.exactly(4).await, b"half");
            drop(client);
            target
        }),
        case("while it reads content", &["http1 GET / 200 reads client client 0/4 0"], async |from| {
            let peer = peer_at(&edge, "reads", |_| {}).await;
            let mut client = sent(from, &edge, &request("GET", "reads", "/", "")).await;
            let mut target = peer.accept().await;
            target.head().await;
            target.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n").await;
            client.head().await;
            client.exactly(9).await;
            drop(client);
            target
        }),
        case("before the edge itself has answered", &["http1 GET /v2/sync 200 - client client 0/* 0"], async |from| {
            let query = format!("epoch={}&revision=999&timeout_ms=300&q={SECRET}", edge.epoch);
            let key = format!("X-BackendAI-Token: {WORKER_KEY}");
            let question = format!("GET /v2/sync?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}\r\n\r\n");
            let client = sent(from, &edge, &question).await;
            // A reset takes away what was not read.
            let ends = (client.stream.peer_addr().expect("connected"), client.stream.local_addr().expect("bound"));
            wait_until("the question to be read", async || unread_bytes(ends.0, ends.1) == Some(0)).await;
            client.reset();
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_client_that_is_too_slow_or_wrong_in_its_content_has_one_record_that_names_it() {
    let edge = start_with(|config| {
        config.client.body = Some(Duration::from_millis(300));
        config.client.write = Duration::from_secs(1);
    })
    .await;
    let provoked = provoke(vec![
        case("content that stops", &["http1 POST / 408 stops client client 4/* 0"], async |from| {
            let peer = peer_at(&edge, "stops", |_| {}).await;
            let post = request("POST", "stops", "/", "Content-Length: 20\r\n");
            (told(from, &edge, format!("{post}half")).await, peer)
        }),
        case("malformed chunks", &["http1 POST / 400 chunked refused client 4/* 0"], async |from| {
            let peer = peer_at(&edge, "chunked", |_| {}).await;
            let post = request("POST", "chunked", "/", "Transfer-Encoding: chunked\r\n");
            let mut client = sent(from, &edge, &format!("{post}4\r\nhalf\r\n")).await;
            let mut target = peer.accept().await;
            target.head().await;
            target.exactly(9).await;
            client.send("zz\r\n").await;
            client.until_end().await;
            (client, peer)
        }),
        case("an answer that is not taken", &["http1 GET / 200 full client client 0/* 0"], async |from| {
            let peer = peer_at(&edge, "full", |_| {}).await;
            let client = sent(from, &edge, &request("GET", "full", "/", "")).await;
            endless(&peer).await;
            client
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_reader_that_stops_where_there_is_no_place_for_it_has_one_record() {
    let edge = start_with(|config| {
        config.client.max_stalled = 0;
        config.client.write = Duration::from_secs(600);
    })
    .await;
    let provoked = provoke(vec![case("stalled", &["http1 GET / 200 lab client client 0/* 0"], async |from| {
        let peer = peer_at(&edge, "lab", |_| {}).await;
        let client = sent(from, &edge, &request("GET", "lab", "/", "")).await;
        endless(&peer).await;
        client
    })]);
    provoked.await.prove(edge).await;
}

/// Answers without end, until the edge gives up.
async fn endless(peer: &crate::peer::Peer) {
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    let block = vec![0; 1024 * 1024];
    let giving_up = async { while target.stream.write_all(&block).await.is_ok() {} };
    testkit::wait::within("the end", giving_up).await;
}
