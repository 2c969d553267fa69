//! Fields that go to targets and to clients.

use entities::circuit::{FieldEdits, Headers};
use testkit::origin::{Origin, Request};
use testkit::ports::free_port;
use testkit::raw::RawClient;

use crate::harness::{TestEdge, at, by_host, by_port};

async fn received(edge: &TestEdge, origin: &Origin, request: &str) -> Request {
    let mut client = RawClient::connect(edge.address).await;
    client.send(request).await;
    assert_eq!(client.answer().await.status, 200);
    origin.requests().last().expect("it arrived").clone()
}

#[tokio::test]
async fn the_target_learns_who_asked_and_how() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let port = edge.address.port();
    let request = received(&edge, &origin, &format!("GET / HTTP/1.1\r\nHost: lab.apps.test:{port}\r\n\r\n")).await;
    let host = format!("lab.apps.test:{port}");
    assert_eq!(request.header("host"), Some(host.as_str()));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some(host.as_str()));
    assert_eq!(request.header("x-forwarded-port"), Some(port.to_string().as_str()));
    let forwarded = format!("for=127.0.0.1;host=\"{host}\";proto=http");
    assert_eq!(request.header("forwarded"), Some(forwarded.as_str()));
    assert_eq!(request.header("via"), Some("1.1 appproxy"));
}

#[tokio::test]
async fn what_a_client_claims_about_its_origin_never_arrives() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let request = received(
        &edge,
        &origin,
        "GET / HTTP/1.1\r\nHost: lab.apps.test\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\n\
         X-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\n\
         Forwarded: for=6.6.6.6\r\nVia: 1.0 before\r\nX-Other: stays\r\n\r\n",
    )
    .await;
    assert_eq!(request.header_all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.header_all("x-forwarded-host"), ["lab.apps.test"]);
    assert_eq!(request.header_all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.header_all("forwarded"), ["for=127.0.0.1;host=lab.apps.test;proto=http"]);
    assert_eq!(request.header("x-real-ip"), None);
    assert_eq!(request.header_all("via"), ["1.0 before", "1.1 appproxy"]);
    assert_eq!(request.header("x-other"), Some("stays"));
}

#[tokio::test]
async fn a_port_circuit_names_its_own_port() {
    let (edge, origin, port) = (TestEdge::start().await, Origin::start("lab").await, free_port());
    edge.serve(&by_port("lab", port, vec![origin.target()])).await;
    let mut client = RawClient::connect(at(port)).await;
    assert_eq!(client.get("/", "anything.test").await.status, 200);
    let request = origin.requests().pop().expect("it arrived");
    assert_eq!(request.header("x-forwarded-port"), Some(port.to_string().as_str()));
    assert_eq!(request.header("x-forwarded-host"), Some("anything.test"));
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_request_end_at_the_edge() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let request = received(
        &edge,
        &origin,
        "GET / HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         TE: trailers\r\nProxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n\r\n",
    )
    .await;
    for name in ["x-hop", "keep-alive", "te", "proxy-authorization", "proxy-connection", "upgrade"] {
        assert_eq!(request.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn hop_by_hop_fields_of_an_answer_end_at_the_edge() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    origin.answer(
        "/hops",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
          Proxy-Connection: close\r\nServer: something/1\r\nX-Other: stays\r\n\r\nok",
    );
    let mut client = RawClient::connect(edge.address).await;
    let answer = client.get("/hops", "lab.apps.test").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    for name in ["x-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
    // What the target says about its own connection is not said about the client's.
    assert!(matches!(answer.field("connection"), None | Some("keep-alive")), "{}", answer.head);
    assert_eq!(answer.field("server"), Some("something/1"));
    assert_eq!(answer.field("x-other"), Some("stays"));
    assert_eq!(client.get("/hops", "lab.apps.test").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn http_1_1_without_a_host_is_a_bad_request() {
    let (edge, port) = (TestEdge::start().await, free_port());
    edge.serve(&by_port("lab", port, vec![])).await;
    for address in [edge.address, at(port)] {
        for request in ["GET / HTTP/1.1\r\nX: 1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"] {
            let mut client = RawClient::connect(address).await;
            client.send(request).await;
            assert_eq!(client.answer().await.status, 400, "{request:?}");
            client.wait_for_end().await;
        }
    }
}

#[tokio::test]
async fn http_1_0_without_a_host_is_served_at_a_port() {
    let (edge, origin, port) = (TestEdge::start().await, Origin::start("lab").await, free_port());
    edge.serve(&by_port("lab", port, vec![origin.target()])).await;
    let mut client = RawClient::connect(at(port)).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(origin.requests()[0].header("via"), Some("1.0 appproxy"));
}

#[tokio::test]
async fn a_circuit_sets_and_removes_fields_in_both_directions() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let mut circuit = by_host("lab", vec![origin.target()]);
    let edits = |set: &[(&str, &str)], remove: &[&str]| FieldEdits {
        set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    };
    circuit.traffic.headers = Headers {
        request: edits(&[("x-team", "atlas"), ("host", "inner.test")], &["dnt", "cookie"]),
        response: edits(&[("x-frame-options", "SAMEORIGIN")], &["server"]),
    };
    edge.serve(&circuit).await;
    origin.answer(
        "/page",
        b"HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Frame-Options: DENY\r\nContent-Length: 2\r\n\r\nok",
    );
    let mut client = RawClient::connect(edge.address).await;
    let fields = "DNT: 1\r\nCookie: a=1\r\nCookie: b=2\r\nX-Team: mine\r\nX-Team: other\r\n";
    client.send(&format!("GET /page HTTP/1.1\r\nHost: lab.apps.test\r\n{fields}\r\n")).await;
    let answer = client.answer().await;
    assert_eq!((answer.field("server"), answer.field("x-frame-options")), (None, Some("SAMEORIGIN")));
    let received = origin.requests().pop().expect("it arrived");
    assert_eq!(received.header_all("x-team"), ["atlas"]);
    assert_eq!((received.header("dnt"), received.header("cookie")), (None, None));
    assert_eq!(received.header("host"), Some("inner.test"));
    assert_eq!(received.header("x-forwarded-host"), Some("lab.apps.test"));

    let mut client = RawClient::connect(edge.address).await;
    client
        .send(&format!(
            "GET /ws HTTP/1.1\r\nHost: lab.apps.test\r\n{fields}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
    assert_eq!(client.head().await.status, 101);
    let received = origin.requests().pop().expect("it arrived");
    assert_eq!((received.header_all("x-team"), received.header("dnt")), (vec!["atlas"], None));
}
