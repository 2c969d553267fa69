//! Who asks, when a proxy stands in front of the edge.

use std::net::IpAddr;

use edge::Config;
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::{Origin, Request};
use testkit::ports::free_port;
use testkit::raw::{RawAnswer, RawClient, connect_from};

use crate::harness::{TestEdge, at, by_host, by_port};

/// Where the trusted proxies of these tests are.
fn believe(config: &mut Config) {
    config.trusted_proxies = vec!["127.0.0.2".parse().expect("valid"), "10.0.0.0/8".parse().expect("valid")];
}

fn proxy() -> IpAddr {
    IpAddr::from([127, 0, 0, 2])
}

/// What a target receives of a request with these fields, sent from `from`.
async fn received(edge: &TestEdge, origin: &Origin, from: IpAddr, fields: &str) -> Request {
    let mut client = RawClient::connect_from(from, edge.address).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: lab.apps.test\r\n{fields}\r\n")).await;
    assert_eq!(client.answer().await.status, 200);
    origin.requests().pop().expect("it arrived")
}

async fn ask(edge: &TestEdge, from: IpAddr, host: &str, path: &str, fields: &str) -> RawAnswer {
    let mut client = RawClient::connect_from(from, edge.address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await;
    client.answer().await
}

#[tokio::test]
async fn the_client_is_whom_a_trusted_proxy_names_and_nobody_that_others_name() {
    let (edge, origin) = (TestEdge::start_with(believe).await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let stranger = IpAddr::from([127, 0, 0, 3]);
    for (from, fields, wanted) in [
        (proxy(), "", "127.0.0.2"),
        (proxy(), "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"),
        (proxy(), "X-Forwarded-For: 6.6.6.6, 198.51.100.7\r\nX-Forwarded-For: 10.1.2.3\r\n", "198.51.100.7"),
        (proxy(), "X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
        (proxy(), "Forwarded: for=6.6.6.6, for=\"[2001:db8::7]:47\";proto=https, for=10.1.2.3\r\n", "2001:db8::7"),
        (proxy(), "Forwarded: for=6.6.6.6;host=\", for=198.51.100.7\r\n", "198.51.100.7"),
        (stranger, "X-Forwarded-For: 6.6.6.6\r\n", "127.0.0.3"),
        (stranger, "Forwarded: for=6.6.6.6\r\n", "127.0.0.3"),
        (stranger, "X-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6, 10.1.2.3\r\n", "127.0.0.3"),
    ] {
        let request = received(&edge, &origin, from, fields).await;
        assert_eq!(request.header_all("x-forwarded-for"), [wanted], "{from}: {fields}");
        let forwarded = request.header_all("forwarded");
        assert_eq!(forwarded.len(), 1, "{fields}");
        let node = if wanted.contains(':') { format!("for=\"[{wanted}]\";") } else { format!("for={wanted};") };
        assert!(forwarded[0].starts_with(&node), "{forwarded:?}");
        assert_eq!(request.header("x-real-ip"), None);
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_about_scheme_host_and_port_reaches_the_target() {
    let (edge, origin) = (TestEdge::start_with(believe).await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let fields = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: lab.example.org\r\n\
                  X-Forwarded-Port: 8443\r\nX-BackendAI-User: alice\r\n";
    let request = received(&edge, &origin, proxy(), fields).await;
    let of = |request: &Request, name: &str| request.header(name).map(str::to_owned);
    assert_eq!(of(&request, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(of(&request, "x-forwarded-host").as_deref(), Some("lab.example.org"));
    assert_eq!(of(&request, "x-forwarded-port").as_deref(), Some("8443"));
    assert_eq!(of(&request, "forwarded").as_deref(), Some("for=198.51.100.7;host=lab.example.org;proto=https"));
    assert_eq!(of(&request, "host").as_deref(), Some("lab.apps.test"));
    assert_eq!(of(&request, "x-backendai-user").as_deref(), Some("alice"));

    let request = received(&edge, &origin, proxy(), "Forwarded: for=198.51.100.7;proto=https\r\n").await;
    assert_eq!(of(&request, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(of(&request, "x-forwarded-port").as_deref(), Some("443"), "that of the scheme");

    let request = received(&edge, &origin, IpAddr::from([127, 0, 0, 3]), fields).await;
    assert_eq!(of(&request, "x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(of(&request, "x-forwarded-host").as_deref(), Some("lab.apps.test"));
    assert_eq!(of(&request, "x-forwarded-port"), Some(edge.address.port().to_string()));
    assert_eq!(of(&request, "x-backendai-user"), None);
}

#[tokio::test]
async fn one_connection_of_a_proxy_carries_requests_of_many_clients() {
    let (edge, origin) = (TestEdge::start_with(believe).await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut client = RawClient::connect_from(proxy(), edge.address).await;
    for (fields, wanted) in [
        ("X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 198.51.100.8\r\n", "198.51.100.8"),
        ("", "127.0.0.2"),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: lab.apps.test\r\n{fields}\r\n")).await;
        assert_eq!(client.answer().await.status, 200);
        let request = origin.requests().pop().expect("it arrived");
        assert_eq!(request.header_all("x-forwarded-for"), [wanted]);
    }
}

#[tokio::test]
async fn an_upgrade_and_a_stream_of_http2_come_from_whom_the_proxy_names() {
    let (edge, origin) = (TestEdge::start_with(believe).await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut client = RawClient::connect_from(proxy(), edge.address).await;
    client
        .send(
            "GET /ws HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n",
        )
        .await;
    assert_eq!(client.head().await.status, 101);
    assert_eq!(origin.requests().pop().expect("it arrived").header("x-forwarded-for"), Some("198.51.100.7"));

    let (origin, port) = (Http2Origin::start("calls").await, free_port());
    let mut circuit = by_port("calls", port, vec![origin.target()]);
    circuit.protocol = entities::circuit::Protocol::H2;
    circuit.backend = entities::circuit::Backend::H2;
    edge.serve(&circuit).await;
    let mut client = Http2Client::over(connect_from(proxy(), at(port)).await).await;
    for wanted in ["198.51.100.7", "198.51.100.8"] {
        let mut request = get("/");
        request.headers_mut().insert("x-forwarded-for", wanted.parse().expect("valid"));
        assert_eq!(client.ask(request).await.expect("answered").status, 200);
        assert_eq!(origin.requests().pop().expect("it arrived").headers["x-forwarded-for"], wanted);
    }
}

#[tokio::test]
async fn fields_that_contradict_each_other_are_refused() {
    let (edge, origin) = (TestEdge::start_with(believe).await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let fields = "X-Forwarded-For: 198.51.100.7\r\nForwarded: for=127.0.0.1\r\n";
    let answer = ask(&edge, proxy(), "lab.apps.test", "/", fields).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("ambiguous_client"), "{}", answer.body);
    assert!(origin.requests().is_empty());
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"malformed\"}").await, 1.0);
}

#[tokio::test]
async fn a_request_that_a_proxy_on_this_machine_forwards_is_not_from_this_machine() {
    let edge = TestEdge::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("valid")];
        config.api_allowed = vec!["127.0.0.0/8".parse().expect("valid"), "198.51.100.0/24".parse().expect("valid")];
    })
    .await;
    for (fields, status) in [
        ("", 200),
        ("X-Forwarded-For: 198.51.100.7\r\n", 200),
        ("X-Forwarded-For: 203.0.113.7\r\n", 403),
        ("X-Forwarded-For: unknown\r\n", 403),
        ("X-Forwarded-For: 127.0.0.1, unknown\r\n", 403),
        ("Forwarded: for=_hidden\r\n", 403),
        ("Forwarded: for=203.0.113.7\r\n", 403),
    ] {
        for path in ["/metrics", "/status"] {
            assert_eq!(ask(&edge, proxy(), "127.0.0.1", path, fields).await.status, status, "{path} {fields}");
        }
    }
}
