//! What happens to requests that a target drops.

use entities::balance::Retries;
use entities::circuit::Circuit;
use reqwest::Method;
use testkit::client::{client, keep_alive_client};
use testkit::origin::Origin;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, by_host, name_of};
use crate::peer::Peer;

const RESENDS: Retries = Retries { idempotent: true, attempts: 3 };

/// A circuit whose first target takes every request and breaks off instead of answering.
async fn breaking(retries: Retries) -> (TestEdge, Origin, Origin) {
    let edge = TestEdge::start().await;
    let (broken, sound) = (Origin::start("broken").await, Origin::start("sound").await);
    broken.answer("/", b"");
    let mut circuit = by_host("lab", vec![broken.target(), sound.target()]);
    circuit.traffic.retries = retries;
    edge.serve(&circuit).await;
    (edge, broken, sound)
}

#[tokio::test]
async fn an_idempotent_request_is_sent_again_where_the_circuit_says_so() {
    for (method, retries, is_served) in [
        (Method::GET, RESENDS, true),
        (Method::PUT, RESENDS, true),
        (Method::DELETE, RESENDS, true),
        (Method::POST, RESENDS, false),
        (Method::PATCH, RESENDS, false),
        (Method::GET, Retries::default(), false),
        (Method::GET, Retries { attempts: 1, ..RESENDS }, false),
    ] {
        let (edge, broken, sound) = breaking(retries).await;
        let request = client().request(method.clone(), edge.url("lab.apps.test", "/")).body("content");
        let response = request.send().await.expect("answered");
        let wanted = if is_served { 200 } else { 502 };
        assert_eq!(response.status(), wanted, "{method} with {retries:?}");
        assert_eq!((broken.count("/"), sound.count("/")), (1, usize::from(is_served)), "{method} with {retries:?}");
        if is_served {
            assert_eq!(sound.requests()[0].body, b"content", "all of it is sent again");
        }
    }
}

#[tokio::test]
async fn an_upgrade_is_sent_again_where_the_circuit_says_so() {
    for (retries, is_served) in [(RESENDS, true), (Retries::default(), false)] {
        let edge = TestEdge::start().await;
        let (broken, sound) = (Origin::start("broken").await, Origin::start("sound").await);
        broken.answer("/ws", b"");
        let mut circuit = by_host("lab", vec![broken.target(), sound.target()]);
        circuit.traffic.retries = retries;
        edge.serve(&circuit).await;
        let opened = WebSocket::open(edge.address, "lab.apps.test", "/ws").await;
        assert_eq!(opened.is_ok(), is_served, "{retries:?}");
        assert_eq!((broken.count("/ws"), sound.count("/ws")), (1, usize::from(is_served)));
        if let Ok(mut socket) = opened {
            assert_eq!(socket.echo("hello").await.as_deref(), Some("hello"));
        }
    }
}

/// Content that is not kept any more cannot be sent again, so nothing is.
#[tokio::test]
async fn an_upload_is_sent_again_only_while_all_of_it_is_there() {
    for (size, is_served) in [(60 * 1024, true), (256 * 1024, false)] {
        let (edge, _broken, sound) = breaking(RESENDS).await;
        let body = vec![b'x'; size];
        let response = client().put(edge.url("lab.apps.test", "/")).body(body).send().await.expect("answered");
        assert_eq!(response.status() == 200, is_served, "{size} bytes: {}", response.status());
        assert_eq!(sound.requests().first().map(|request| request.body.len()), is_served.then_some(size));
        let sent = edge.metric("appproxy_edge_retries_total{reason=\"sent\"}").await;
        assert_eq!(sent, f64::from(u8::from(is_served)), "nothing is begun that cannot be finished");
    }
}

#[tokio::test]
async fn once_an_answer_has_begun_nothing_is_sent_again() {
    let edge = TestEdge::start().await;
    let (broken, sound) = (Origin::start("broken").await, Origin::start("sound").await);
    broken.answer("/", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    let mut circuit = by_host("lab", vec![broken.target(), sound.target()]);
    circuit.traffic.retries = RESENDS;
    edge.serve(&circuit).await;
    let answer = edge.get("lab.apps.test", "/").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err(), "the client sees that it is not whole");
    assert_eq!(sound.count("/"), 0);
}

#[tokio::test]
async fn retries_end_when_the_circuits_budget_is_spent() {
    let edge = TestEdge::start().await;
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    one.answer("/", b"");
    two.answer("/", b"");
    let mut circuit = by_host("lab", vec![one.target(), two.target()]);
    circuit.traffic.retries = Retries { idempotent: true, attempts: 2 };
    edge.serve(&circuit).await;
    for _ in 0..60 {
        assert_eq!(edge.get("lab.apps.test", "/").await.status(), 502);
    }
    // A reserve of 20, and a fifth of what came.
    let sent = one.count("/") + two.count("/");
    assert!((60 + 20..=60 + 20 + 12).contains(&sent), "{sent}");
    assert!(edge.metric("appproxy_edge_retries_total{reason=\"unpaid\"}").await > 20.0);
}

/// The target's time for idle connections is over just as the next request comes.
#[tokio::test]
async fn a_connection_that_the_target_has_closed_is_not_seen_by_the_client() {
    let (edge, peer) = (TestEdge::start().await, Peer::start().await);
    edge.serve(&Circuit { ..by_host("lab", vec![peer.target()]) }).await;
    let client = keep_alive_client();
    let url = edge.url("lab.apps.test", "/");
    let ask = |method: Method| tokio::spawn(client.request(method, &url).body("x").send());
    for method in [Method::GET, Method::POST, Method::PUT] {
        let first = ask(Method::GET);
        let mut target = peer.accept().await;
        target.head().await;
        target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(first.await.expect("no panic").expect("answered").status(), 200);
        drop(target);
        let second = ask(method.clone());
        let mut target = peer.accept().await;
        target.head().await;
        target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        assert_eq!(second.await.expect("no panic").expect("answered").status(), 200, "{method}");
    }
}

/// It is read while the target closes: without an answer, an idempotent request goes over a new connection, even where the
/// circuit does not allow that anything is sent twice.
#[tokio::test]
async fn a_request_that_crossed_the_end_of_a_used_connection_is_sent_again_if_it_is_idempotent() {
    let (edge, peer) = (TestEdge::start().await, Peer::start().await);
    let mut circuit = by_host("lab", vec![peer.target()]);
    circuit.traffic.retries = Retries { idempotent: false, attempts: 1 };
    edge.serve(&circuit).await;
    let client = keep_alive_client();
    let url = edge.url("lab.apps.test", "/");
    let first = tokio::spawn(client.get(&url).send());
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(first.await.expect("no panic").expect("answered").status(), 200);
    let second = tokio::spawn(client.get(&url).send());
    target.head().await;
    drop(target);
    let mut target = peer.accept().await;
    target.head().await;
    target.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(second.await.expect("no panic").expect("answered").status(), 200);
    assert_eq!(edge.metric("appproxy_edge_retries_total{reason=\"reused\"}").await, 1.0);
    assert_eq!(edge.metric("appproxy_edge_target_faults_total{reason=\"broken\"}").await, 0.0);
}

#[tokio::test]
async fn a_target_that_breaks_off_again_and_again_is_left_out() {
    let (edge, broken, sound) = breaking(RESENDS).await;
    for _ in 0..20 {
        assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "sound");
    }
    assert_eq!((broken.count("/"), sound.count("/")), (3, 20));
}
