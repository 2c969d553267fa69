//! What passes the door, byte for byte.

use testkit::wait::within;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::double::{Securing, mask};
use super::place::{Kind, Place, connect};
use super::{Case, client, in_each};
use crate::harness::TestEdge;
use crate::peer::{Peer, PeerConnection};

const BULK_BYTES: usize = 1024 * 1024;
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// Letters of which none stands where its neighbours could.
fn letters(count: usize, seed: usize) -> Vec<u8> {
    let letter = |at: usize| b'a' + u8::try_from((at * 7 + at / 26 + at / 677 + seed) % 26).expect("small");
    (0..count).map(letter).collect()
}

async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    within("room to write", async {
        to.write_all(bytes).await.expect("sends");
        to.flush().await.expect("sends");
    })
    .await;
}

async fn expect(from: &mut (impl AsyncRead + Unpin), bytes: &[u8], what: &str) {
    let mut read = vec![0; bytes.len()];
    within(what, from.read_exact(&mut read)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let differs = read.iter().zip(bytes).position(|(read, sent)| read != sent);
    assert_eq!(differs, None, "{what}: the first byte that is not what was sent");
}

async fn expect_end(from: &mut (impl AsyncRead + Unpin), what: &str) {
    let mut rest = Vec::new();
    within(what, from.read_to_end(&mut rest)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(rest.escape_ascii().to_string(), "", "{what}");
}

/// Reads a head byte by byte, so that nothing behind it is.
async fn expect_switched(from: &mut (impl AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("the head", from.read_u8()).await.expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_carries_both_directions_unchanged_and_ends_each_for_itself() {
    let relayed = Case::all().filter(|case| case.kind.is_relayed());
    in_each(relayed, 4, async |case| {
        let edge = TestEdge::start_with(|config| case.configure(config)).await;
        let peer = Peer::start().await;
        let (circuit, address) = case.kind.circuit(&edge, "lab", peer.target());
        edge.serve(&circuit).await;
        for client_ends_first in [true, false] {
            let line = connect(case, address, client(1)).await;
            let (mut from_edge, mut to_edge) = tokio::io::split(line);
            let (early, up, down) = (letters(999, 1), letters(BULK_BYTES, 2), letters(BULK_BYTES, 3));
            let start = if case.kind.is_tunnel() { case.kind.upgrade("lab.apps.test") } else { String::new() };
            // Bytes behind the head are of the new protocol, if the target agrees.
            send(&mut to_edge, &[start.as_bytes(), &early].concat()).await;
            let mut target = peer.accept().await;
            if case.kind.is_tunnel() {
                target.head().await;
                target.send(AGREED).await;
                expect_switched(&mut from_edge).await;
            }
            assert_eq!(target.exactly(early.len()).await, early);
            let PeerConnection { stream, read_ahead } = target;
            assert!(read_ahead.is_empty());
            let (mut at_target, mut by_target) = stream.into_split();
            tokio::join!(
                send(&mut to_edge, &up),
                send(&mut by_target, &down),
                expect(&mut at_target, &up, "what the client has sent"),
                expect(&mut from_edge, &down, "what the target has sent"),
            );
            let late = letters(100_000, 4);
            if client_ends_first {
                to_edge.shutdown().await.expect("half-closes");
                expect_end(&mut at_target, "the end of the client's direction").await;
                tokio::join!(send(&mut by_target, &late), expect(&mut from_edge, &late, "what comes after that"));
                by_target.shutdown().await.expect("closes");
                expect_end(&mut from_edge, "the end of the target's direction").await;
            } else {
                by_target.shutdown().await.expect("half-closes");
                expect_end(&mut from_edge, "the end of the target's direction").await;
                tokio::join!(send(&mut to_edge, &late), expect(&mut at_target, &late, "what comes after that"));
                to_edge.shutdown().await.expect("closes");
                expect_end(&mut at_target, "the end of the client's direction").await;
            }
            edge.wait_for_no_connection().await;
        }
        let ends = edge.metric("appproxy_edge_relay_ends_total{reason=\"finished\"}").await;
        assert_eq!(ends, 2.0);
    })
    .await;
}

/// Everything that is said here is ASCII, and the mask makes it something else.
#[tokio::test]
async fn nothing_is_on_the_wire_but_what_the_secured_stream_has_put_there() {
    let masking = Case::all().filter(|case| case.securing == Securing::Masking && case.kind != Kind::Http2);
    in_each(masking, usize::MAX, async |case| {
        let edge = TestEdge::start_with(|config| {
            config.client.max_connections_per_client = 1;
            config.uncounted_clients = vec!["127.0.0.1/32".parse().expect("a range")];
            case.configure(config);
        })
        .await;
        let place = Place::open(&edge, case, "lab").await;
        let upgrade = format!("{}hello", case.kind.upgrade("lab.apps.test"));
        let conversations = if case.kind == Kind::Bytes {
            vec![("hello", "hello")]
        } else if case.kind.is_tunnel() {
            vec![(upgrade.as_str(), "HTTP/1.1 101 ")]
        } else {
            vec![
                ("GET / HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "),
                ("GET / HTTP/1.1\r\nHost: lab.apps.test\r\nHost: two\r\n\r\n", "HTTP/1.1 400 "),
                ("\r\n\r\nno request\r\n\r\n", "HTTP/1.1 400 "),
            ]
        };
        for (said, wanted) in conversations {
            let wire = wire(&place, case, said).await;
            let heard = mask(&wire);
            assert!(heard.starts_with(wanted.as_bytes()), "{} for {said}", heard.escape_ascii());
            assert!(!wire.iter().any(u8::is_ascii), "something was not masked: {}", wire.escape_ascii());
            edge.wait_for_no_connection().await;
        }
        let _held = place.seat(client(1)).await;
        let refused = wire(&place, case, &case.kind.upgrade("lab.apps.test")).await;
        assert!(!refused.iter().any(u8::is_ascii), "something was not masked: {}", refused.escape_ascii());
        let is_told = mask(&refused).starts_with(b"HTTP/1.1 429 ");
        assert_eq!(is_told, case.kind != Kind::Bytes, "{}", mask(&refused).escape_ascii());
    })
    .await;
}

/// Says this, masked; what is on the wire until the edge ends the connection, as it is.
async fn wire(place: &Place, case: Case, said: &str) -> Vec<u8> {
    let mut socket = testkit::raw::connect_from(client(1), place.address).await;
    // Whoever is turned away may be so before.
    let _ = socket.write_all(&mask(said.as_bytes())).await;
    if case.kind.is_relayed() {
        // The target ends its direction after the client's.
        let _ = socket.shutdown().await;
    }
    let mut wire = Vec::new();
    // A reset ends it as well.
    let _ = within("the end of the connection", socket.read_to_end(&mut wire)).await;
    wire
}
