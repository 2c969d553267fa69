//! Upgraded connections: who may have one, what reaches either side of the handshake, and how they end.

use std::time::Duration;

use entities::circuit::Circuit;
use testkit::origin::Origin;
use testkit::ports::DeadPort;
use testkit::wait::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{TestEdge, by_host};
use crate::peer::{Peer, PeerConnection, field};

pub(crate) const ASK: &str = "GET /socket?a=%2F&b HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

pub(crate) const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nCONNECTION: Upgrade\r\n\
                      X-Odd-Case:  two spaces\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n";

/// The field with the request's name, which the edge puts below the status line.
pub(crate) const NAME_BYTES: usize = "x-request-id: 0123456789abcdef\r\n".len();

/// The same without it: the head as the target wrote it.
fn unnamed(head: &str) -> String {
    let line_end = head.find('\n').expect("a status line") + 1;
    let (line, rest) = head.split_at(line_end);
    assert!(rest.starts_with("x-request-id: "), "{line}{}", &rest[..NAME_BYTES]);
    format!("{line}{}", &rest[NAME_BYTES..])
}

/// A client that asks for an upgrade, and the target that hears it.
struct Pair {
    edge: TestEdge,
    client: PeerConnection,
    target: PeerConnection,
}

impl Pair {
    /// Both have the head of the other.
    async fn agreed() -> Self {
        Self::agreed_at(TestEdge::start().await, |_| {}).await
    }

    /// The same at an edge of the test's own, through a circuit that `change` has changed.
    async fn agreed_at(edge: TestEdge, change: impl FnOnce(&mut Circuit)) -> Self {
        let (mut pair, _) = Self::asked_at(edge, change, ASK).await;
        pair.target.send(AGREED).await;
        assert_eq!(unnamed(&pair.client.head().await), AGREED);
        pair
    }

    /// The target has read `request`; what it got comes along.
    async fn asked(request: &str) -> (Self, String) {
        Self::asked_at(TestEdge::start().await, |_| {}, request).await
    }

    async fn asked_at(edge: TestEdge, change: impl FnOnce(&mut Circuit), request: &str) -> (Self, String) {
        let peer = Peer::start().await;
        let mut circuit = by_host("lab", vec![peer.target()]);
        change(&mut circuit);
        edge.serve(&circuit).await;
        let mut client = PeerConnection::connect(edge.address).await;
        client.send(request).await;
        let mut target = peer.accept().await;
        let head = target.head().await;
        (Self { edge, client, target }, head)
    }
}

#[tokio::test]
async fn the_target_gets_every_field_it_needs_and_the_client_gets_its_answer_as_it_was_written() {
    let fields = "Origin: http://lab.apps.test\r\nCookie: session=1\r\nAuthorization: Bearer t\r\n\
                  Sec-WebSocket-Protocol: chat, v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    let request = ASK.replace("Sec-WebSocket-Version", &format!("{fields}Sec-WebSocket-Version"));
    let (mut pair, head) = Pair::asked(&request).await;
    assert!(head.starts_with("GET /socket?a=%2F&b HTTP/1.1\r\n"), "{head}");
    for line in fields.lines().chain(["Host: lab.apps.test", "Sec-WebSocket-Version: 13"]) {
        let (name, value) = line.split_once(": ").expect("a field");
        assert_eq!(field(&head, name), Some(value), "{head}");
    }
    assert_eq!((field(&head, "connection"), field(&head, "upgrade")), (Some("Upgrade"), Some("WebSocket")));
    assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
    pair.target.send(AGREED).await;
    assert_eq!(unnamed(&pair.client.head().await), AGREED);
    assert_eq!(pair.edge.metric("appproxy_edge_upgrades_total").await, 1.0);
}

#[tokio::test]
async fn bytes_that_either_side_sends_early_are_not_lost() {
    let early = "e".repeat(300_000);
    let (edge, peer) = (TestEdge::start().await, Peer::start().await);
    edge.serve(&by_host("lab", vec![peer.target()])).await;
    let (mut reading, mut writing) = TcpStream::connect(edge.address).await.expect("it listens").into_split();
    let request = format!("{ASK}{early}");
    let sending = tokio::spawn(async move {
        writing.write_all(request.as_bytes()).await.expect("sends");
        writing
    });
    let mut target = peer.accept().await;
    target.head().await;
    assert!(target.read_ahead.is_empty(), "nothing of the new protocol before the target has agreed");
    target.send(format!("{AGREED}{early}")).await;
    assert_eq!(target.exactly(early.len()).await, early.as_bytes());
    let mut got = vec![0; AGREED.len() + NAME_BYTES + early.len()];
    within("the answer", reading.read_exact(&mut got)).await.expect("whole");
    let got = String::from_utf8(got).expect("text");
    assert!(unnamed(&got) == format!("{AGREED}{early}"), "{}", &got[..AGREED.len()]);
    drop(sending.await.expect("no panic"));
}

#[tokio::test]
async fn each_direction_ends_for_itself() {
    let mut pair = Pair::agreed().await;
    pair.client.stream.shutdown().await.expect("half-closes");
    assert_eq!(pair.target.until_end().await, b"");
    pair.target.send("after the client's end").await;
    assert_eq!(pair.client.exactly(22).await, b"after the client's end");
    pair.target.stream.shutdown().await.expect("closes");
    assert_eq!(pair.client.until_end().await, b"");
    pair.edge.wait_for_no_connection().await;

    let mut pair = Pair::agreed().await;
    pair.target.stream.shutdown().await.expect("half-closes");
    assert_eq!(pair.client.until_end().await, b"");
    pair.client.send("after the target's end").await;
    assert_eq!(pair.target.exactly(22).await, b"after the target's end");
    drop(pair.client.stream.shutdown().await);
    assert_eq!(pair.target.until_end().await, b"");
}

#[tokio::test]
async fn informational_answers_before_the_101_are_not_taken_for_it() {
    let (mut pair, _) = Pair::asked(ASK).await;
    pair.target.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
    pair.target.send(AGREED).await;
    assert_eq!(unnamed(&pair.client.head().await), AGREED);
}

#[tokio::test]
async fn a_refusal_passes_as_the_ordinary_answer_that_it_is() {
    let (mut pair, _) = Pair::asked(&format!("{ASK}bytes in hope")).await;
    let refusal = "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\nX-Why: me\r\nKeep-Alive: timeout=5\r\n\r\n\
                   3\r\nno!\r\n0\r\n\r\n";
    pair.target.send(refusal).await;
    let head = pair.client.head().await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!((field(&head, "x-why"), field(&head, "connection")), (Some("me"), Some("close")));
    let body = String::from_utf8(pair.client.until_end().await).expect("text");
    assert!(body.contains("no!"), "{body}");
    assert_eq!(pair.target.until_end().await, b"", "the hopeful bytes went nowhere");
    pair.edge.wait_for_no_connection().await;
}

#[tokio::test]
async fn consent_by_another_status_is_none() {
    let (mut pair, _) = Pair::asked(ASK).await;
    pair.target
        .send("HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let head = pair.client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(field(&head, "upgrade"), None);
    pair.client.stream.write_all(b"smuggled").await.expect("sends");
    assert_eq!(pair.client.until_end().await, b"ok");
    assert_eq!(pair.target.until_end().await, b"");
}

#[tokio::test]
async fn what_hides_http_and_what_has_content_is_served_as_an_ordinary_request() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    for (request, body) in [
        (
            "GET / HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
          HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            "",
        ),
        (
            "POST / HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Content-Length: 4\r\n\r\nbody",
            "body",
        ),
        ("GET / HTTP/1.1\r\nHost: lab.apps.test\r\nUpgrade: websocket\r\n\r\n", ""),
        ("GET / HTTP/1.0\r\nHost: lab.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ""),
    ] {
        let mut client = PeerConnection::connect(edge.address).await;
        client.send(request).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "), "{request}");
        let received = origin.requests().pop().expect("it arrived");
        assert_eq!((received.header("upgrade"), received.header("http2-settings")), (None, None), "{request}");
        assert_eq!(received.body, body.as_bytes(), "{request}");
    }
    assert_eq!(edge.metric("appproxy_edge_upgrades_total").await, 0.0);
}

#[tokio::test]
async fn any_other_protocol_may_be_agreed_on() {
    let (mut pair, head) = Pair::asked(&ASK.replace("WebSocket", "tcp")).await;
    assert_eq!(field(&head, "upgrade"), Some("tcp"));
    pair.target.send(AGREED).await;
    pair.client.head().await;
    pair.client.send("raw").await;
    assert_eq!(pair.target.exactly(3).await, b"raw");
}

#[tokio::test]
async fn a_target_that_answers_a_handshake_with_garbage_or_not_at_all_is_named_for_it() {
    for (answer, status, reason) in [
        (Some("SSH-2.0-OpenSSH\r\n\r\n"), 502, "broken"),
        (Some("HTTP/1.1 101 Swit"), 502, "broken"),
        (Some(""), 502, "broken"),
        (None, 504, "timeout"),
    ] {
        let (edge, peer) = (TestEdge::start().await, Peer::start().await);
        let mut circuit = by_host("lab", vec![peer.target()]);
        circuit.traffic.timeouts.first_byte_ms = Some(if answer.is_some() { 30_000 } else { 200 });
        edge.serve(&circuit).await;
        let mut client = PeerConnection::connect(edge.address).await;
        client.send(ASK).await;
        let mut target = peer.accept().await;
        target.head().await;
        if let Some(answer) = answer {
            target.send(answer).await;
            target.stream.shutdown().await.expect("closes");
        }
        assert!(client.head().await.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
        let metric = format!("appproxy_edge_target_faults_total{{reason=\"{reason}\"}}");
        assert_eq!(edge.metric(&metric).await, 1.0, "{answer:?}");
        assert_eq!(target.until_end().await, b"");
    }
}

#[tokio::test]
async fn the_next_target_gets_the_upgrade_of_a_dead_one() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("alive").await);
    let (first, second) = (DeadPort::hold(), DeadPort::hold());
    let dead = |dead: &DeadPort| testkit::origin::target("127.0.0.1", dead.port());
    edge.serve(&by_host("lab", vec![dead(&first), dead(&second), origin.target()])).await;
    for _ in 0..3 {
        let mut client = PeerConnection::connect(edge.address).await;
        client.send(ASK.replace("/socket", "/ws")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    }
    edge.serve(&by_host("gone", vec![dead(&first)])).await;
    let mut client = PeerConnection::connect(edge.address).await;
    client.send(ASK.replace("lab.", "gone.")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn a_tunnel_that_carries_nothing_ends_where_the_circuit_says_so() {
    let edge = TestEdge::start().await;
    let Pair { mut client, mut target, .. } =
        Pair::agreed_at(edge, |circuit| circuit.traffic.timeouts.idle_s = Some(1)).await;
    assert_eq!(client.until_end().await, b"");
    assert_eq!(target.until_end().await, b"");
}

#[tokio::test]
async fn a_client_that_resets_its_tunnel_ends_it_for_the_target_too() {
    let Pair { edge, client, mut target } = Pair::agreed().await;
    client.stream.set_zero_linger().expect("an option");
    drop(client);
    assert_eq!(target.until_end().await, b"");
    edge.wait_for_no_connection().await;
}

#[tokio::test]
async fn a_stopping_edge_lets_a_tunnel_go_on_for_the_drain_time_and_no_longer() {
    let edge = TestEdge::start_with(|config| config.shutdown_drain = Duration::from_secs(2)).await;
    let Pair { edge, mut client, mut target } = Pair::agreed_at(edge, |_| {}).await;
    let stopping = tokio::spawn(edge.stop());
    client.send("still there").await;
    assert_eq!(target.exactly(11).await, b"still there");
    assert_eq!(client.until_end().await, b"");
    within("the end of the edge", stopping).await.expect("no panic");
}
