//! How requests of HTTP/1 end that reached a target, or should have.

use entities::balance::Retries;
use entities::circuit::Backend;
use testkit::http2::Http2Origin;
use testkit::origin::{Origin, target};
use testkit::ports::DeadPort;

use super::{asked, case, peer_at, provoke, request, sent, start_with};
use crate::harness::{TestEdge, by_host};
use crate::peer::PeerConnection;

const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour";

/// An origin that answers `/` with these bytes and closes, at `<name>.apps.test`.
async fn answering(edge: &TestEdge, name: &str, bytes: &[u8]) -> Origin {
    let origin = Origin::start(name).await;
    origin.answer("/", bytes);
    edge.serve(&by_host(name, vec![origin.target()])).await;
    origin
}

/// Asks for `/` and reads whatever is answered.
async fn ask(from: std::net::IpAddr, edge: &TestEdge, name: &str) -> PeerConnection {
    asked(from, edge, &request("GET", name, "/", "")).await
}

#[tokio::test]
async fn whatever_a_target_makes_of_a_request_has_one_record() {
    let edge = start_with(|_| {}).await;
    let provoked = provoke(vec![
        case("answered whole", &["http1 GET / 200 whole finished - 0/4 0"], async |from| {
            let origin = answering(&edge, "whole", WHOLE).await;
            (ask(from, &edge, "whole").await, origin)
        }),
        case("content both ways", &["http1 POST / 200 both finished - 3/4 0"], async |from| {
            let origin = answering(&edge, "both", WHOLE).await;
            let post = request("POST", "both", "/", "Content-Length: 3\r\n");
            (asked(from, &edge, &format!("{post}abc")).await, origin)
        }),
        case(
            "one connection with two requests",
            &["http1 GET / 200 two finished - 0/4 0", "http1 GET /none 404 - refused client 0/* 0"],
            async |from| {
                let origin = answering(&edge, "two", WHOLE).await;
                let mut client = ask(from, &edge, "two").await;
                client.exactly(4).await;
                client.send(request("GET", "nobody", "/none", "")).await;
                client.head().await;
                (client, origin)
            },
        ),
        case("closes without an answer", &["http1 GET / 502 closes target target 0/* 0"], async |from| {
            let origin = answering(&edge, "closes", b"").await;
            (ask(from, &edge, "closes").await, origin)
        }),
        case("answers no HTTP", &["http1 GET / 502 garbage target target 0/* 0"], async |from| {
            let origin = answering(&edge, "garbage", b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
            (ask(from, &edge, "garbage").await, origin)
        }),
        case("breaks off inside its content", &["http1 GET / 200 half target target 0/4 0"], async |from| {
            let origin = answering(&edge, "half", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
            let mut client = ask(from, &edge, "half").await;
            assert_eq!(client.until_end().await, b"half");
            (client, origin)
        }),
        case("breaks off between two chunks", &["http1 GET / 200 chunks target target 0/4 0"], async |from| {
            let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
            let origin = answering(&edge, "chunks", chunks).await;
            let mut client = ask(from, &edge, "chunks").await;
            client.until_end().await;
            (client, origin)
        }),
        case("does not begin to answer in time", &["http1 GET / 504 silent target target 0/* 0"], async |from| {
            let peer = peer_at(&edge, "silent", |circuit| circuit.traffic.timeouts.first_byte_ms = Some(100)).await;
            (ask(from, &edge, "silent").await, peer)
        }),
        case("answers HEAD", &["http1 HEAD / 200 heads finished - 0/0 0"], async |from| {
            let origin = answering(&edge, "heads", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
            (asked(from, &edge, &request("HEAD", "heads", "/", "")).await, origin)
        }),
        case("switches to what nobody asked for", &["http1 GET / 502 switches target target 0/* 0"], async |from| {
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\nbytes";
            let origin = answering(&edge, "switches", switch).await;
            (ask(from, &edge, "switches").await, origin)
        }),
        case("answers over HTTP/2", &["http1 GET /x 200 over finished - 0/4 0"], async |from| {
            let origin = Http2Origin::start("over").await;
            let mut circuit = by_host("over", vec![origin.target()]);
            circuit.backend = Backend::H2;
            edge.serve(&circuit).await;
            (asked(from, &edge, &request("GET", "over", "/x", "")).await, origin)
        }),
        case("says 103 and breaks off", &["http1 GET / 502 hints target target 0/* 0"], async |from| {
            let peer = peer_at(&edge, "hints", |_| {}).await;
            let mut client = sent(from, &edge, &request("GET", "hints", "/", "")).await;
            let mut target = peer.accept().await;
            target.head().await;
            target.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
            drop(target);
            client.until_end().await;
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_request_that_finds_no_target_has_one_record() {
    let edge = start_with(|_| {}).await;
    let provoked = provoke(vec![
        case("no target", &["http1 GET / 503 empty refused target 0/* 0"], async |from| {
            edge.serve(&by_host("empty", vec![])).await;
            ask(from, &edge, "empty").await
        }),
        case("no target has a weight", &["http1 GET / 503 weightless refused target 0/* 0"], async |from| {
            let mut circuit = by_host("weightless", vec![target("127.0.0.1", 80)]);
            circuit.targets[0].weight = 0;
            edge.serve(&circuit).await;
            ask(from, &edge, "weightless").await
        }),
        case("has never answered", &["http1 GET / 503 starting target target 0/* 0"], async |from| {
            let dead = DeadPort::hold();
            edge.serve(&by_host("starting", vec![target("127.0.0.1", dead.port())])).await;
            (ask(from, &edge, "starting").await, dead)
        }),
        case("has died", &["http1 GET / 502 died target target 0/* 0"], async |from| {
            let origin = Origin::start("died").await;
            edge.serve(&by_host("died", vec![origin.target()])).await;
            assert_eq!(edge.get("died.apps.test", "/").await.status(), 200);
            drop(origin);
            ask(from, &edge, "died").await
        }),
        case("has no address", &["http1 GET / 502 nowhere target target 0/* 0"], async |from| {
            edge.serve(&by_host("nowhere", vec![target("nobody.invalid", 80)])).await;
            ask(from, &edge, "nowhere").await
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_has_one_record_that_counts_the_retries() {
    let edge = start_with(|_| {}).await;
    let served = async |name: &str, retries: Retries| {
        let (broken, sound) = (Origin::start("broken").await, Origin::start("sound").await);
        broken.answer("/", b"");
        sound.answer("/", WHOLE);
        let mut circuit = by_host(name, vec![broken.target(), sound.target()]);
        circuit.traffic.retries = retries;
        edge.serve(&circuit).await;
        (broken, sound)
    };
    let provoked = provoke(vec![
        case("whole at the second target", &["http1 GET / 200 again finished - 0/4 1"], async |from| {
            let origins = served("again", Retries { idempotent: true, attempts: 3 }).await;
            (ask(from, &edge, "again").await, origins)
        }),
        case("nothing is sent again", &["http1 GET / 502 once target target 0/* 0"], async |from| {
            let origins = served("once", Retries { idempotent: false, attempts: 3 }).await;
            (ask(from, &edge, "once").await, origins)
        }),
        case("after one that takes no connection", &["http1 GET / 200 next finished - 0/4 1"], async |from| {
            let (dead, origin) = (DeadPort::hold(), Origin::start("alive").await);
            origin.answer("/", WHOLE);
            edge.serve(&by_host("next", vec![target("127.0.0.1", dead.port()), origin.target()])).await;
            (ask(from, &edge, "next").await, dead, origin)
        }),
    ]);
    provoked.await.prove(edge).await;
}
