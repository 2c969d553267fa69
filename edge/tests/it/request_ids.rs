//! Every request has a name: in its answer, at its target, and on the page that says why it was refused.

use testkit::origin::{Origin, target};
use testkit::ports::DeadPort;
use testkit::raw::{RawAnswer, RawClient};

use crate::harness::{TestEdge, by_host};

async fn ask(edge: &TestEdge, request: &str) -> RawAnswer {
    let mut client = RawClient::connect(edge.address).await;
    client.send(request).await;
    client.answer().await
}

fn id_of(answer: &RawAnswer) -> String {
    let ids: Vec<&str> = answer
        .head
        .lines()
        .filter_map(|line| {
            line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("x-request-id")).map(|(_, id)| id)
        })
        .collect();
    assert_eq!(ids.len(), 1, "{}", answer.head);
    ids[0].to_owned()
}

#[tokio::test]
async fn an_answer_has_the_name_under_which_the_target_saw_the_request() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut seen = Vec::new();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    for (path, fields, status) in [("/", "X-Request-Id: of-the-client\r\n", 200), ("/", "", 200), ("/ws", upgrade, 101)]
    {
        let answer = ask(&edge, &format!("GET {path} HTTP/1.1\r\nHost: lab.apps.test\r\n{fields}\r\n")).await;
        assert_eq!(answer.status, status);
        let received = origin.requests().pop().expect("it arrived");
        assert_eq!(received.header_all("x-request-id"), [id_of(&answer)]);
        seen.push(id_of(&answer));
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
    // Two requests of one connection are two requests.
    let mut client = RawClient::connect(edge.address).await;
    let pair = [client.get("/", "lab.apps.test").await, client.get("/", "lab.apps.test").await];
    assert_ne!(id_of(&pair[0]), id_of(&pair[1]));
}

#[tokio::test]
async fn what_the_edge_answers_itself_shows_the_name_to_people_and_programs() {
    let (edge, dead) = (TestEdge::start().await, DeadPort::hold());
    let mut private = by_host("private", vec![]);
    private.access.public = false;
    edge.serve(&private).await;
    edge.serve(&by_host("dead", vec![target("127.0.0.1", dead.port())])).await;
    for (start, host, status) in [
        ("GET / HTTP/1.1", "private", 401),
        ("GET / HTTP/1.1", "nobody", 404),
        ("GET / HTTP/1.1", "dead", 503),
        ("GET /\x01 HTTP/1.1", "dead", 400),
        ("GET / HTTP/3.0", "dead", 505),
    ] {
        for (accept, kind) in [("text/html", "text/html"), ("application/json", "application/problem+json")] {
            let answer = ask(&edge, &format!("{start}\r\nHost: {host}.apps.test\r\nAccept: {accept}\r\n\r\n")).await;
            assert_eq!(answer.status, status, "{start}");
            let field = answer.head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-type"));
            assert!(field.is_some_and(|field| field.contains(kind)), "{}", answer.head);
            assert!(answer.body.contains(&id_of(&answer)), "{}", answer.body);
            assert!(!answer.body.contains("127.0.0.1"), "{}", answer.body);
        }
    }
    let call =
        ask(&edge, "POST /a.B/C HTTP/1.1\r\nHost: private.apps.test\r\nContent-Type: application/grpc\r\n\r\n").await;
    assert_eq!((call.field("grpc-status"), call.status), (Some("16"), 200));
    id_of(&call);
    id_of(&ask(&edge, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await);
}

#[tokio::test]
async fn a_trusted_proxy_may_name_the_request_and_nobody_else_may() {
    let trusting = TestEdge::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("valid")];
    })
    .await;
    let named = |id: &str| format!("GET / HTTP/1.1\r\nHost: nobody.apps.test\r\nX-Request-Id: {id}\r\n\r\n");
    assert_eq!(id_of(&ask(&trusting, &named("gateway-17")).await), "gateway-17");
    let evil = ask(&trusting, &named("<script>").replace("\r\n\r\n", "\r\nAccept: text/html\r\n\r\n")).await;
    assert!(!evil.body.contains("<script>"), "{}", evil.body);
    assert_ne!(id_of(&ask(&trusting, &named("two words")).await), "two words");
    let strict = TestEdge::start().await;
    assert_ne!(id_of(&ask(&strict, &named("gateway-17")).await), "gateway-17");
}
