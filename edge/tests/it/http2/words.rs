//! Fields that go to targets, and answers of the edge's own.

use entities::circuit::Protocol;
use http::Request;
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::target;
use testkit::ports::DeadPort;

use super::by_http2;
use crate::harness::{TestEdge, at};

fn call(path: &str) -> Request<()> {
    let request = Request::post(format!("http://app.test{path}")).header("te", "trailers");
    request.header("content-type", "application/grpc+proto").body(()).expect("valid")
}

#[tokio::test]
async fn the_target_learns_who_asked_and_how() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let uri = format!("http://app.test:{port}/path?query");
    let claims = [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6"), ("x-forwarded-host", "evil.test")];
    let request = claims.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
    client.ask(request.body(()).expect("valid")).await.expect("answered");
    let request = &origin.requests()[0];
    let host = format!("app.test:{port}");
    assert_eq!(request.uri.authority().map(|authority| authority.as_str()), Some(host.as_str()));
    assert_eq!(request.uri.path_and_query().map(|path| path.as_str()), Some("/path?query"));
    let forwarded = format!("for=127.0.0.1;host=\"{host}\";proto=http");
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", &host),
        ("x-forwarded-port", &port.to_string()),
        ("forwarded", &forwarded),
        ("via", "2.0 appproxy"),
    ] {
        let values: Vec<_> = request.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
}

#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_a_bad_request() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    for (host, status) in [("app.test", 200), ("other.test", 400), ("app.test:1", 400)] {
        let request = Request::get("http://app.test/").header("host", host).body(()).expect("valid");
        assert_eq!(client.ask(request).await.expect("answered").status, status, "{host}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_client_that_brings_nothing_but_malformed_requests_is_cut_off() {
    let edge = TestEdge::start().await;
    let (circuit, port) = by_http2("lab", vec![]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let request = || Request::get("http://app.test/").header("host", "other.test").body(()).expect("valid");
    for _ in 0..31 {
        assert_eq!(client.ask(request()).await.expect("answered").status, 400);
    }
    let _ = client.ask(request()).await;
    let error = client.wait_for_end().await.expect_err("GOAWAY with an error");
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn errors_of_the_edge_are_those_of_http_1() {
    let (edge, dead) = (TestEdge::start().await, DeadPort::hold());
    for (name, targets, status, code) in
        [("empty", vec![], 503, "no_target"), ("dead", vec![target("127.0.0.1", dead.port())], 503, "starting")]
    {
        let (circuit, port) = by_http2(name, targets);
        edge.serve(&circuit).await;
        let mut client = Http2Client::connect(at(port)).await;
        let answer = client.ask(get("/")).await.expect("answered");
        assert_eq!(answer.status, status);
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(problem["code"], code);
    }
}

#[tokio::test]
async fn a_call_of_grpc_hears_a_status_of_grpc() {
    let (edge, dead, origin) = (TestEdge::start().await, DeadPort::hold(), Http2Origin::start("lab").await);
    for (name, targets, status) in [
        ("empty", vec![], "14"),
        ("dead", vec![target("127.0.0.1", dead.port())], "14"),
        ("slow", vec![origin.target()], "4"),
    ] {
        let (mut circuit, port) = by_http2(name, targets);
        circuit.protocol = Protocol::Grpc;
        circuit.traffic.timeouts.first_byte_ms = Some(100);
        edge.serve(&circuit).await;
        let mut client = Http2Client::connect(at(port)).await;
        let answer = client.ask(call("/hold")).await.expect("answered");
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(answer.headers["content-type"], "application/grpc", "{name}");
        assert_eq!(answer.headers["grpc-status"], status, "{name}");
        assert!(!answer.headers["grpc-message"].is_empty(), "{name}");
        assert!(answer.is_head_only && answer.trailers.is_none(), "{name}: trailers only");
    }
}
