//! HTTP/1.1 in its details: heads and their limits, methods, targets, answers that take their time.

use std::time::Duration;

use edge::Http1Engine;
use testkit::origin::Origin;
use testkit::raw::RawClient;
use testkit::wait::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{TestEdge, by_host, carried_by};
use crate::peer::{Peer, PeerConnection, field};

async fn edge_with(peer: &Peer) -> TestEdge {
    let edge = TestEdge::start().await;
    edge.serve(&by_host("lab", vec![peer.target()])).await;
    edge
}

#[tokio::test]
async fn what_is_not_http_is_told_so_at_once() {
    let edge = TestEdge::start().await;
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"GET /\r\n"] {
        let mut client = PeerConnection::connect(edge.address).await;
        client.send(garbage).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert_eq!(field(&head, "connection"), Some("close"));
        let problem: serde_json::Value = serde_json::from_slice(&client.until_end().await).expect("JSON");
        assert_eq!(problem["code"], "bad_request");
    }
    assert_eq!(edge.metric("appproxy_edge_requests_total{code_class=\"4xx\"}").await, 3.0);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let edge = TestEdge::start_with(|config| config.client.head = Duration::from_millis(300)).await;
    let mut slow = PeerConnection::connect(edge.address).await;
    slow.send("GET / HTTP/1.1\r\nHost: lab").await;
    assert!(slow.head().await.starts_with("HTTP/1.1 408 "));
    let problem: serde_json::Value = serde_json::from_slice(&slow.until_end().await).expect("JSON");
    assert_eq!(problem["code"], "head_timeout");
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"head_timeout\"}").await, 1.0);

    let mut long = PeerConnection::connect(edge.address).await;
    long.send(format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(64 * 1024))).await;
    assert!(long.head().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_connection_that_brings_nothing_more_is_closed_without_a_word() {
    let edge = TestEdge::start_with(|config| config.client.idle = Duration::from_secs(1)).await;
    let mut client = RawClient::connect(edge.address).await;
    assert_eq!(client.get("/", "nobody.apps.test").await.status, 404);
    assert_eq!(client.get("/", "nobody.apps.test").await.status, 404);
    assert_eq!(client.try_answer().await, None);
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte_and_after_empty_lines() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut client = RawClient::connect(edge.address).await;
    for _ in 0..2 {
        for byte in "\r\n\r\nPOST /a HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: 3\r\n\r\nxyz".chars() {
            client.send(&byte.to_string()).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(origin.requests().iter().map(|request| request.body.clone()).collect::<Vec<_>>(), [b"xyz", b"xyz"]);
}

#[tokio::test]
async fn methods_and_request_targets_pass_as_they_are() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut client = RawClient::connect(edge.address).await;
    for method in ["OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "PURGE"] {
        for target in ["/a/../b%2f//c", "/%E2%82%AC?q=%20&r=a+b&&s", "/x;y=1/?", "//double"] {
            client.send(&format!("{method} {target} HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n")).await;
            assert_eq!(client.answer().await.status, 200, "{method} {target}");
            let received = origin.requests().pop().expect("it arrived");
            assert_eq!((received.method.as_str(), received.path.as_str()), (method, target));
        }
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(origin.requests().pop().expect("it arrived").path, "*");
    client.send("GET http://lab.apps.test/p%2f?q HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(origin.requests().pop().expect("it arrived").path, "/p%2f?q");
    client.send("HEAD /head HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.get("/after", "lab.apps.test").await.status, 200, "the answer to HEAD had no content");
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let peer = Peer::start().await;
    let edge = edge_with(&peer).await;
    let mut client = PeerConnection::connect(edge.address).await;
    client.send("GET /events HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        target.send(&event).await;
        // The next one is sent only when this one has arrived.
        let chunk = client.exactly(format!("{:X}\r\n{event}\r\n", event.len()).len()).await;
        assert!(String::from_utf8_lossy(&chunk).contains(&event), "{chunk:?}");
    }
}

#[tokio::test]
async fn an_answer_must_begin_in_time_and_may_then_be_silent() {
    let peer = Peer::start().await;
    let edge = TestEdge::start().await;
    let mut circuit = by_host("lab", vec![peer.target()]);
    circuit.traffic.timeouts.first_byte_ms = Some(1_000);
    edge.serve(&circuit).await;
    let ask = "GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n";

    let mut client = PeerConnection::connect(edge.address).await;
    client.send(ask).await;
    let mut silent = peer.accept().await;
    silent.head().await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    assert_eq!(edge.metric("appproxy_edge_target_faults_total{reason=\"timeout\"}").await, 1.0);
    assert_eq!(silent.until_end().await, b"", "the request was sent once");

    let mut client = PeerConnection::connect(edge.address).await;
    client.send(ask).await;
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    client.head().await;
    assert_eq!(client.exactly(8).await, b"3\r\nabc\r\n");
    // Longer than the limit, by the clock of the same runtime that the edge's timers run on.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    target.send("3\r\ndef\r\n0\r\n\r\n").await;
    assert_eq!(client.exactly(13).await, b"3\r\ndef\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_pause_between_two_requests_is_no_wait_for_an_answer() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let mut circuit = by_host("lab", vec![origin.target()]);
    circuit.traffic.timeouts.first_byte_ms = Some(1_000);
    edge.serve(&circuit).await;
    let mut client = RawClient::connect(edge.address).await;
    for _ in 0..2 {
        assert_eq!(client.get("/", "lab.apps.test").await.status, 200);
        // Longer than the limit: the timer of the last request goes off meanwhile.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
}

#[tokio::test]
async fn a_long_upload_is_no_wait_for_an_answer() {
    let peer = Peer::start().await;
    let edge = TestEdge::start().await;
    let mut circuit = by_host("lab", vec![peer.target()]);
    circuit.traffic.timeouts.first_byte_ms = Some(1_500);
    edge.serve(&circuit).await;
    let mut client = PeerConnection::connect(edge.address).await;
    client.send("POST / HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: 20\r\n\r\n").await;
    let mut target = peer.accept().await;
    target.head().await;
    for _ in 0..20 {
        client.send("x").await;
        target.exactly(1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    target.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_from_the_target() {
    let peer = Peer::start().await;
    let edge = edge_with(&peer).await;
    let mut client = PeerConnection::connect(edge.address).await;
    client.send("POST / HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").await;
    let mut target = peer.accept().await;
    assert_eq!(field(&target.head().await, "expect"), Some("100-continue"));
    target.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 "));
    client.send("body").await;
    assert_eq!(target.exactly(4).await, b"body");
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(client.exactly(2).await, b"ok");
}

#[tokio::test]
async fn trailers_end_at_the_edge_unless_client_and_engine_take_them() {
    for (asked, is_taken) in [("", false), ("TE: trailers\r\n", carried_by() == Http1Engine::Exchange)] {
        let peer = Peer::start().await;
        let edge = edge_with(&peer).await;
        let mut client = PeerConnection::connect(edge.address).await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: lab.apps.test\r\n{asked}\r\n")).await;
        let mut target = peer.accept().await;
        target.head().await;
        let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\
                      Set-Cookie: a=b\r\n\r\n";
        target.send(answer).await;
        let head = client.head().await;
        assert_eq!(field(&head, "trailer"), is_taken.then_some("X-Sum"), "{head}");
        let content: &[u8] = if is_taken { b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n" } else { b"2\r\nok\r\n0\r\n\r\n" };
        assert_eq!(client.exactly(content.len()).await, content);
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off() {
    let peer = Peer::start().await;
    let edge = TestEdge::start_with(|config| config.client.write = Duration::from_secs(1)).await;
    edge.serve(&by_host("lab", vec![peer.target()])).await;
    let mut client = PeerConnection::connect(edge.address).await;
    client.send("GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await;
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    let block = vec![0; 1024 * 1024];
    // The edge does not read without end for somebody who reads nothing: it gives the target up.
    let ended = within("the end", async {
        let mut sent = 0;
        while target.stream.write_all(&block).await.is_ok() {
            sent += block.len();
        }
        sent
    });
    assert!(ended.await < 64 * 1024 * 1024, "the buffers of two sockets at most");
    let mut rest = Vec::new();
    let _ = within("the end", client.stream.read_to_end(&mut rest)).await;
    assert!(rest.len() < 64 * 1024 * 1024);
}

/// Many clients read nothing before they have sent everything.
#[tokio::test]
async fn an_answer_that_comes_early_reaches_a_client_that_sends_on() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let peer = Peer::start().await;
    let edge = edge_with(&peer).await;
    let mut client = PeerConnection::connect(edge.address).await;
    client.send(&format!("POST / HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: {LENGTH}\r\n\r\n")).await;
    client.send("first").await;
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
    let draining = tokio::spawn(async move { target.until_end().await.len() });
    let rest = vec![b'x'; LENGTH - "first".len()];
    within("the content to be taken", client.stream.write_all(&rest)).await.expect("nobody resets it");
    assert!(client.head().await.starts_with("HTTP/1.1 401 "));
    assert_eq!(client.exactly(2).await, b"no");
    draining.abort();
}
