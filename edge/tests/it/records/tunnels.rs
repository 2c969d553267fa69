//! How requests end that ask for another protocol, and the tunnels that some of them become.

use std::net::IpAddr;

use entities::balance::Retries;
use entities::circuit::Circuit;
use testkit::origin::{Origin, target};
use testkit::ports::DeadPort;
use tokio::io::AsyncWriteExt as _;

use super::{asked, case, peer_at, provoke, sent, start_with};
use crate::harness::{TestEdge, by_host};
use crate::peer::{Peer, PeerConnection};
use crate::tunnel::{AGREED, ASK, NAME_BYTES};

/// What the client of a tunnel gets first.
const HEAD_BYTES: usize = AGREED.len() + NAME_BYTES;

fn ask(name: &str) -> String {
    ASK.replace("lab.", &format!("{name}."))
}

/// A client that has asked for an upgrade, and the target that has read that.
async fn upgrading(from: IpAddr, edge: &TestEdge, name: &str) -> (PeerConnection, PeerConnection, Peer) {
    upgrading_at(from, edge, name, |_| {}).await
}

async fn upgrading_at(
    from: IpAddr,
    edge: &TestEdge,
    name: &str,
    change: impl FnOnce(&mut Circuit),
) -> (PeerConnection, PeerConnection, Peer) {
    let peer = peer_at(edge, name, change).await;
    let client = sent(from, edge, &ask(name)).await;
    let mut target = peer.accept().await;
    target.head().await;
    (client, target, peer)
}

/// Both ends of a tunnel through which the client has said `ping`.
pub(super) async fn tunnel(
    from: IpAddr,
    edge: &TestEdge,
    name: &str,
    change: impl FnOnce(&mut Circuit),
) -> (PeerConnection, PeerConnection) {
    let (mut client, mut target, _) = upgrading_at(from, edge, name, change).await;
    target.send(AGREED).await;
    client.head().await;
    client.send("ping").await;
    assert_eq!(target.exactly(4).await, b"ping");
    (client, target)
}

/// The row of a tunnel at this circuit with so many bytes after the head.
fn row(name: &str, end: &str, to_target: usize, to_client: usize) -> String {
    format!("upgraded GET /socket 101 {name} {end} {to_target}/{} 0", HEAD_BYTES + to_client)
}

#[tokio::test]
async fn a_tunnel_has_one_record_whoever_ends_it() {
    let edge = start_with(|_| {}).await;
    let provoked = provoke(vec![
        case("the client first", &[&row("client", "finished -", 4, 3)], async |from| {
            let (mut client, mut target) = tunnel(from, &edge, "client", |_| {}).await;
            client.stream.shutdown().await.expect("half-closes");
            assert_eq!(target.until_end().await, b"");
            target.send("bye").await;
            drop(target);
            assert_eq!(client.until_end().await, b"bye");
        }),
        case("the target first", &[&row("target", "finished -", 7, 0)], async |from| {
            let (mut client, mut target) = tunnel(from, &edge, "target", |_| {}).await;
            target.stream.shutdown().await.expect("half-closes");
            assert_eq!(client.until_end().await, b"");
            client.send("bye").await;
            drop(client);
            assert_eq!(target.until_end().await, b"bye");
        }),
        case("early bytes from both", &[&row("early", "finished -", 5, 4)], async |from| {
            let peer = peer_at(&edge, "early", |_| {}).await;
            let mut client = sent(from, &edge, &format!("{}early", ask("early"))).await;
            let mut target = peer.accept().await;
            target.head().await;
            target.send(format!("{AGREED}bird")).await;
            client.exactly(HEAD_BYTES + 4).await;
            assert_eq!(target.exactly(5).await, b"early");
            drop(client);
            assert_eq!(target.until_end().await, b"");
        }),
        case("the client resets", &[&row("reset", "client client", 4, 0)], async |from| {
            let (client, mut target) = tunnel(from, &edge, "reset", |_| {}).await;
            client.reset();
            target.until_end().await;
        }),
        case("the target resets", &[&row("resets", "target target", 4, 0)], async |from| {
            let (mut client, target) = tunnel(from, &edge, "resets", |_| {}).await;
            target.reset();
            client.until_end().await;
        }),
        case("nothing passes for too long", &[&row("idle", "idle -", 4, 0)], async |from| {
            let idle = |circuit: &mut Circuit| circuit.traffic.timeouts.idle_s = Some(1);
            let (mut client, target) = tunnel(from, &edge, "idle", idle).await;
            client.until_end().await;
            target
        }),
        case("the client resets first", &["upgraded GET /socket 101 hasty client client 0/* 0"], async |from| {
            let (client, mut target, _) = upgrading(from, &edge, "hasty").await;
            client.reset();
            target.send(AGREED).await;
            target.until_end().await;
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_request_that_becomes_no_tunnel_has_one_record_as_an_ordinary_one() {
    let edge = start_with(|_| {}).await;
    let provoked = provoke(vec![
        case("declined", &["http1 GET /socket 403 declined finished - 0/3 0"], async |from| {
            let (mut client, mut target, _) = upgrading(from, &edge, "declined").await;
            target.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!").await;
            client.head().await;
            (client, target)
        }),
        case("declined and broken off", &["http1 GET /socket 200 halved target target 0/4 0"], async |from| {
            let (mut client, mut target, _) = upgrading(from, &edge, "halved").await;
            target.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
            drop(target);
            client.until_end().await;
        }),
        case("broken off", &["http1 GET /socket 502 broken target target 0/* 0"], async |from| {
            let (mut client, target, _) = upgrading(from, &edge, "broken").await;
            drop(target);
            client.head().await;
            client
        }),
        case("answered by no HTTP", &["http1 GET /socket 502 garbage target target 0/* 0"], async |from| {
            let (mut client, mut target, _) = upgrading(from, &edge, "garbage").await;
            target.send("SSH-2.0-OpenSSH\r\n\r\n").await;
            client.head().await;
            (client, target)
        }),
        case("not answered", &["http1 GET /socket 504 silent target target 0/* 0"], async |from| {
            let limit = |circuit: &mut Circuit| circuit.traffic.timeouts.first_byte_ms = Some(100);
            let (mut client, target, _) = upgrading_at(from, &edge, "silent", limit).await;
            client.head().await;
            (client, target)
        }),
        case("no target is there", &["http1 GET /socket 503 dead target target 0/* 0"], async |from| {
            let dead = DeadPort::hold();
            edge.serve(&by_host("dead", vec![target("127.0.0.1", dead.port())])).await;
            (asked(from, &edge, &ask("dead")).await, dead)
        }),
        case("a circuit without targets", &["http1 GET /socket 503 empty refused target 0/* 0"], async |from| {
            edge.serve(&by_host("empty", vec![])).await;
            asked(from, &edge, &ask("empty")).await
        }),
        case("asked again", &["upgraded GET /socket 101 again finished - 0/* 1"], async |from| {
            let (broken, peer) = (Origin::start("broken").await, Peer::start().await);
            broken.answer("/socket", b"");
            let mut circuit = by_host("again", vec![broken.target(), peer.target()]);
            circuit.traffic.retries = Retries { idempotent: true, attempts: 2 };
            edge.serve(&circuit).await;
            let mut client = sent(from, &edge, &ask("again")).await;
            let mut target = peer.accept().await;
            target.head().await;
            target.send(AGREED).await;
            client.head().await;
            drop(target);
        }),
    ]);
    provoked.await.prove(edge).await;
}
