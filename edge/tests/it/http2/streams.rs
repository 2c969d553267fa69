//! What goes over one connection side by side.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use http::Request;
use testkit::client::client;
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::wait::{wait_until, within};

use super::by_http2;
use crate::harness::{TestEdge, at, by_host, name_of};

#[tokio::test]
async fn many_streams_take_one_connection_to_the_target() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let answered = "appproxy_edge_requests_total{code_class=\"2xx\"}";
    let before = edge.metric(answered).await;
    let mut held = Vec::new();
    for number in 1..=50 {
        held.push(client.begin(get("/hold"), true).await.expect("a stream").0);
        wait_until("the request", async || origin.requests().len() == number).await;
    }
    assert_eq!(client.max_streams(), 100);
    assert_eq!(origin.connections(), 1);
    assert_eq!(edge.metric("appproxy_edge_connections_open").await, 2.0, "the client's and that of this question");
    origin.release(50);
    for answer in join_all(held.into_iter().map(Http2Client::read)).await {
        assert_eq!(answer.expect("answered").body, "held");
    }
    // The two questions before this one count as well.
    wait_until("all to be counted", async || edge.metric(answered).await >= before + 52.0).await;
}

#[tokio::test]
async fn two_circuits_do_not_share_a_connection_to_one_target() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    for name in ["one", "two"] {
        let (circuit, port) = by_http2(name, vec![origin.target()]);
        edge.serve(&circuit).await;
        let mut client = Http2Client::connect(at(port)).await;
        for _ in 0..3 {
            assert_eq!(client.ask(get("/")).await.expect("answered").body, "lab");
        }
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn content_goes_both_ways_as_it_comes_and_the_trailers_follow() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let request = Request::post("http://app.test/echo").header("te", "trailers").body(()).expect("valid");
    let (answer, mut writer) = client.begin(request, false).await.expect("a stream");
    let mut content = within("the head", answer).await.expect("answered").into_body();
    for word in ["one", "two", "three"] {
        writer.send_data(Bytes::from_static(word.as_bytes()), false).expect("open");
        assert_eq!(within("the echo", content.data()).await.expect("open").expect("no error"), word);
    }
    writer.send_data(Bytes::new(), true).expect("open");
    assert!(within("the end", content.data()).await.is_none());
    let trailers = within("the trailers", content.trailers()).await.expect("no error").expect("trailers");
    assert_eq!(trailers["x-length"], "11");
    assert_eq!(origin.requests()[0].headers["te"], "trailers");
}

#[tokio::test]
async fn a_large_upload_comes_back_whole() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let request = Request::post("http://app.test/echo").body(()).expect("valid");
    let (answer, mut writer) = client.begin(request, false).await.expect("a stream");
    // More than all windows on the way together.
    let sent: Bytes = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    writer.send_data(sent.clone(), true).expect("open");
    assert_eq!(Http2Client::read(answer).await.expect("answered").body, sent);
}

#[tokio::test]
async fn a_client_that_resets_its_stream_resets_it_at_the_target_and_no_other() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let (stays, _) = client.begin(get("/hold"), true).await.expect("a stream");
    let (_goes, mut writer) = client.begin(get("/hold"), false).await.expect("a stream");
    wait_until("both requests", async || origin.requests().len() == 2).await;
    writer.send_reset(Reason::CANCEL);
    wait_until("the reset", async || origin.resets() == [Reason::CANCEL]).await;
    origin.release(1);
    assert_eq!(Http2Client::read(stays).await.expect("answered").body, "held");
}

#[tokio::test]
async fn a_target_that_resets_its_stream_tells_the_client_why() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let (answer, mut writer) = client.begin(get("/reset"), false).await.expect("a stream");
    let mut content = within("the head", answer).await.expect("answered").into_body();
    assert_eq!(within("the part", content.data()).await.expect("open").expect("no error"), "part");
    writer.send_data(Bytes::from_static(b"go on"), false).expect("open");
    let error = within("the reset", content.data()).await.expect("an error").expect_err("reset");
    assert_eq!(error.reason(), Some(Reason::INADEQUATE_SECURITY));
    assert_eq!(client.ask(get("/")).await.expect("the connection goes on").body, "lab");
}

#[tokio::test]
async fn streams_that_are_reset_as_soon_as_they_are_open_take_nothing_from_others() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut hostile = Http2Client::connect(at(port)).await;
    for _ in 0..2_000 {
        let Ok((_, mut writer)) = hostile.begin(get("/hold"), false).await else { break };
        writer.send_reset(Reason::CANCEL);
    }
    let mut client = Http2Client::connect(at(port)).await;
    assert_eq!(client.ask(get("/")).await.expect("answered").body, "lab");
    drop(hostile);
    // All that have reached the target are reset there.
    wait_until("the resets", async || origin.resets().len() + 1 >= origin.requests().len()).await;
}

#[tokio::test]
async fn a_pause_that_is_longer_than_the_circuit_allows_is_a_gateway_timeout() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (mut circuit, port) = by_http2("lab", vec![origin.target()]);
    circuit.traffic.timeouts.first_byte_ms = Some(100);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    assert_eq!(client.ask(get("/hold")).await.expect("answered").status, 504);
    wait_until("the end of the stream", async || origin.resets().len() == 1).await;
}

#[tokio::test]
async fn a_subdomain_brings_http_1_to_an_http2_target() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let mut circuit = by_host("lab", vec![origin.target()]);
    circuit.backend = entities::circuit::Backend::H2;
    edge.serve(&circuit).await;
    let request = client().post(edge.url("lab.apps.test", "/echo")).body("sent").timeout(Duration::from_secs(10));
    assert_eq!(request.send().await.expect("answered").text().await.expect("text"), "sent");
    let host = format!("lab.apps.test:{}", edge.address.port());
    assert_eq!(origin.requests()[0].uri.authority().map(|authority| authority.as_str()), Some(host.as_str()));
}

#[tokio::test]
async fn an_http2_front_brings_requests_to_an_http_1_target() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let (mut circuit, port) = by_http2("lab", vec![origin.target()]);
    circuit.backend = entities::circuit::Backend::Http;
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let answer = client.ask(get("/path")).await.expect("answered");
    let echo: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&echo["name"], &echo["path"]), (&"lab".into(), &"/path".into()));
    assert_eq!(origin.requests()[0].header("host"), Some("app.test"));
    let by_http_1 = client_at(port).await;
    assert_eq!(by_http_1, "lab");
}

async fn client_at(port: u16) -> String {
    name_of(client().get(format!("http://x.test:{port}/")).send().await.expect("answered")).await
}
