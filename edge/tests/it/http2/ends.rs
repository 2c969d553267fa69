//! How connections and streams end.

use std::time::{Duration, Instant};

use h2::Reason;
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::wait::wait_until;

use super::by_http2;
use crate::harness::{TestEdge, at};

#[tokio::test]
async fn a_change_of_targets_leaves_connections_and_streams_alone() {
    let edge = TestEdge::start().await;
    let (before, after) = (Http2Origin::start("before").await, Http2Origin::start("after").await);
    let (mut circuit, port) = by_http2("lab", vec![before.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let (held, _) = client.begin(get("/hold"), true).await.expect("a stream");
    wait_until("the request", async || before.requests().len() == 1).await;
    circuit.targets = vec![after.target()];
    edge.serve(&circuit).await;
    let (other, _) = by_http2("other", vec![]);
    edge.serve(&other).await;
    edge.close(&other).await;
    assert_eq!(client.ask(get("/")).await.expect("answered").body, "after");
    before.release(1);
    assert_eq!(Http2Client::read(held).await.expect("answered").body, "held");
}

#[tokio::test]
async fn closing_says_goaway_ends_idle_connections_and_lets_streams_finish() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::from_secs(60)).await;
    let origin = Http2Origin::start("lab").await;
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let (mut idle, silent) = (Http2Client::connect(at(port)).await, Http2Client::connect(at(port)).await);
    assert_eq!(idle.ask(get("/")).await.expect("answered").body, "lab");
    let mut busy = Http2Client::connect(at(port)).await;
    let (held, _) = busy.begin(get("/hold"), true).await.expect("a stream");
    wait_until("the request", async || origin.requests().len() == 2).await;

    edge.close(&circuit).await;
    idle.wait_for_end().await.expect("GOAWAY without an error");
    silent.wait_for_end().await.expect("GOAWAY without an error");
    wait_until("GOAWAY", async || busy.begin(get("/"), true).await.is_err()).await;
    origin.release(1);
    assert_eq!(Http2Client::read(held).await.expect("answered").body, "held");
    busy.wait_for_end().await.expect("GOAWAY without an error");
}

#[tokio::test]
async fn a_stream_that_outlives_the_drain_time_is_reset() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::from_millis(50)).await;
    let origin = Http2Origin::start("lab").await;
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let (one, _) = client.begin(get("/hold"), true).await.expect("a stream");
    let (two, _) = client.begin(get("/hold"), true).await.expect("a stream");
    wait_until("the requests", async || origin.requests().len() == 2).await;
    edge.close(&circuit).await;
    for held in [one, two] {
        assert_eq!(Http2Client::read(held).await.expect_err("reset").reason(), Some(Reason::CANCEL));
    }
    assert_eq!(edge.metric("appproxy_edge_drains_cut_total").await, 2.0);
    client.wait_for_end().await.expect("GOAWAY without an error");
    wait_until("the resets at the target", async || origin.resets().len() == 2).await;
}

#[tokio::test]
async fn an_edge_that_stops_lets_streams_finish() {
    let edge = TestEdge::start_with(|config| config.shutdown_drain = Duration::from_secs(60)).await;
    let origin = Http2Origin::start("lab").await;
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let (silent, mut busy) = (Http2Client::connect(at(port)).await, Http2Client::connect(at(port)).await);
    let (held, _) = busy.begin(get("/hold"), true).await.expect("a stream");
    wait_until("the request", async || origin.requests().len() == 1).await;
    edge.begin_stop();
    silent.wait_for_end().await.expect("GOAWAY without an error");
    origin.release(1);
    assert_eq!(Http2Client::read(held).await.expect("answered").body, "held");
    busy.wait_for_end().await.expect("GOAWAY without an error");
    let start = Instant::now();
    edge.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_outlives_the_drain_of_the_edge_is_cut() {
    let edge = TestEdge::start_with(|config| config.shutdown_drain = Duration::from_millis(50)).await;
    let origin = Http2Origin::start("lab").await;
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let (held, _) = client.begin(get("/hold"), true).await.expect("a stream");
    wait_until("the request", async || origin.requests().len() == 1).await;
    edge.stop().await;
    Http2Client::read(held).await.expect_err("cut");
    wait_until("the end of the stream at the target", async || origin.resets().len() == 1).await;
}

#[tokio::test]
async fn an_edge_that_is_cancelled_leaves_no_stream_behind() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = Http2Client::connect(at(port)).await;
    let (held, _) = client.begin(get("/hold"), true).await.expect("a stream");
    wait_until("the request", async || origin.requests().len() == 1).await;
    edge.cancel().await;
    Http2Client::read(held).await.expect_err("cut");
    wait_until("the end of the stream at the target", async || origin.resets().len() == 1).await;
}
