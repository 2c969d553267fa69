//! How byte streams end, and how they do not begin.

use std::net::IpAddr;

use entities::circuit::Circuit;
use entities::rate::Per;
use testkit::origin::target;
use testkit::ports::DeadPort;
use tokio::io::AsyncWriteExt as _;

use super::{bytes_circuit, case, provoke, start_with, turned_away};
use crate::harness::{TestEdge, at};
use crate::peer::{Peer, PeerConnection};
use crate::rates::limit;

/// Both ends of a stream through which the client has said `ping` and the target `hello`.
pub(super) async fn stream(
    from: IpAddr,
    edge: &TestEdge,
    name: &str,
    change: impl FnOnce(&mut Circuit),
) -> (PeerConnection, PeerConnection) {
    let peer = Peer::start().await;
    let (mut circuit, port) = bytes_circuit(name, vec![peer.target()]);
    change(&mut circuit);
    edge.serve(&circuit).await;
    greeted(from, port, &peer).await
}

async fn greeted(from: IpAddr, port: u16, peer: &Peer) -> (PeerConnection, PeerConnection) {
    let mut client = PeerConnection::connect_from(from, at(port)).await;
    let mut target = peer.accept().await;
    client.send("ping").await;
    assert_eq!(target.exactly(4).await, b"ping");
    target.send("hello").await;
    assert_eq!(client.exactly(5).await, b"hello");
    (client, target)
}

#[tokio::test]
async fn a_byte_stream_has_one_record_whoever_ends_it() {
    let edge = start_with(|_| {}).await;
    let provoked = provoke(vec![
        case("the client first", &["bytes - - - client finished - 7/5 0"], async |from| {
            let (mut client, mut target) = stream(from, &edge, "client", |_| {}).await;
            client.send("bye").await;
            client.stream.shutdown().await.expect("half-closes");
            assert_eq!(target.until_end().await, b"bye");
            drop(target);
            client.until_end().await;
        }),
        case("the target first", &["bytes - - - target finished - 4/8 0"], async |from| {
            let (mut client, mut target) = stream(from, &edge, "target", |_| {}).await;
            target.send("bye").await;
            target.stream.shutdown().await.expect("half-closes");
            assert_eq!(client.until_end().await, b"bye");
            drop(client);
            target.until_end().await;
        }),
        case("without a byte", &["bytes - - - silent finished - 0/0 0"], async |from| {
            let peer = Peer::start().await;
            let (circuit, port) = bytes_circuit("silent", vec![peer.target()]);
            edge.serve(&circuit).await;
            drop(PeerConnection::connect_from(from, at(port)).await);
            peer.accept().await.until_end().await;
        }),
        case("the client resets", &["bytes - - - reset client client 4/5 0"], async |from| {
            let (client, mut target) = stream(from, &edge, "reset", |_| {}).await;
            client.reset();
            target.until_end().await;
        }),
        case("the target resets", &["bytes - - - resets target target 4/5 0"], async |from| {
            let (mut client, target) = stream(from, &edge, "resets", |_| {}).await;
            target.reset();
            client.until_end().await;
        }),
        case("nothing passes for too long", &["bytes - - - idle idle - 4/5 0"], async |from| {
            let idle = |circuit: &mut Circuit| circuit.traffic.timeouts.idle_s = Some(1);
            let (mut client, target) = stream(from, &edge, "idle", idle).await;
            client.until_end().await;
            target
        }),
        case("at the second target", &["bytes - - - next finished - 4/5 1"], async |from| {
            let (dead, peer) = (DeadPort::hold(), Peer::start().await);
            let (circuit, port) = bytes_circuit("next", vec![target("127.0.0.1", dead.port()), peer.target()]);
            edge.serve(&circuit).await;
            drop(greeted(from, port, &peer).await);
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_byte_stream_that_does_not_begin_has_one_record() {
    let edge = start_with(|config| config.client.max_open_per_circuit = 1).await;
    let serve = async |name: &str, targets, change: &dyn Fn(&mut Circuit)| {
        let (mut circuit, port) = bytes_circuit(name, targets);
        change(&mut circuit);
        edge.serve(&circuit).await;
        port
    };
    let provoked = provoke(vec![
        case("an address that is not allowed", &["bytes - - - far refused client 0/0 0"], async |from| {
            let far = |circuit: &mut Circuit| {
                circuit.access.public = false;
                circuit.access.allowed_clients = vec!["10.0.0.0/8".parse().expect("valid")];
            };
            turned_away(from, serve("far", vec![target("127.0.0.1", 80)], &far).await).await
        }),
        case("a circuit that is full", &["bytes - - - full refused client 0/0 0"], async |from| {
            let peer = Peer::start().await;
            let port = serve("full", vec![peer.target()], &|_| {}).await;
            let first = greeted(at(0).ip(), port, &peer).await;
            (turned_away(from, port).await, first)
        }),
        case("more than the rate", &["bytes - - - often refused client 0/0 0"], async |from| {
            let peer = Peer::start().await;
            let once = |circuit: &mut Circuit| circuit.traffic.rate_limit = limit(0.01, 1, Per::Circuit);
            let port = serve("often", vec![peer.target()], &once).await;
            let (first, mut end) = greeted(at(0).ip(), port, &peer).await;
            drop(first);
            end.until_end().await;
            drop(end);
            // Until the circuit has room again.
            let refused = "appproxy_edge_relay_ends_total{reason=\"finished\"}";
            testkit::wait::wait_until("the end", async || edge.metric(refused).await >= 1.0).await;
            turned_away(from, port).await
        }),
        case("no target", &["bytes - - - empty refused target 0/0 0"], async |from| {
            turned_away(from, serve("empty", vec![], &|_| {}).await).await
        }),
        case("a dead target", &["bytes - - - dead target target 0/0 0"], async |from| {
            let dead = DeadPort::hold();
            let port = serve("dead", vec![target("127.0.0.1", dead.port())], &|_| {}).await;
            (turned_away(from, port).await, dead)
        }),
        case("two dead targets", &["bytes - - - both target target 0/0 1"], async |from| {
            let dead = [DeadPort::hold(), DeadPort::hold()];
            let targets = dead.iter().map(|dead| target("127.0.0.1", dead.port())).collect();
            (turned_away(from, serve("both", targets, &|_| {}).await).await, dead)
        }),
        case("a target without an address", &["bytes - - - nowhere target target 0/0 0"], async |from| {
            turned_away(from, serve("nowhere", vec![target("nobody.invalid", 80)], &|_| {}).await).await
        }),
    ]);
    provoked.await.prove(edge).await;
}
