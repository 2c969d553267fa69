//! Targets that go: what is open there stays for the drain time, and nothing new comes.

use std::time::Duration;

use testkit::origin::Origin;
use testkit::wait::wait_until;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, by_host, name_of};

async fn open(edge: &TestEdge) -> WebSocket {
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");
    assert_eq!(socket.echo("hello").await.as_deref(), Some("hello"));
    socket
}

/// Whatever ends the life of a target ends what is open there after the drain time, and leaves the others alone.
#[tokio::test]
async fn a_target_that_is_removed_or_weighs_nothing_keeps_what_is_open_for_the_drain_time() {
    for weight in [None, Some(0)] {
        let edge = TestEdge::start().await;
        let (going, staying) = (Origin::start("going").await, Origin::start("staying").await);
        let mut circuit = by_host("lab", vec![going.target(), staying.target()]);
        circuit.traffic.timeouts.drain_s = Some(1);
        edge.serve(&circuit).await;
        let (mut one, mut two) = (open(&edge).await, open(&edge).await);
        assert_eq!((going.count("/ws"), staying.count("/ws")), (1, 1));

        match weight {
            Some(weight) => circuit.targets[0].weight = weight,
            None => _ = circuit.targets.remove(0),
        }
        edge.serve(&circuit).await;
        assert_eq!(one.echo("still there").await.as_deref(), Some("still there"));
        for _ in 0..4 {
            assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "staying");
        }
        one.wait_for_end().await;
        assert_eq!(edge.metric("appproxy_edge_drains_cut_total").await, 1.0);
        assert_eq!(two.echo("untouched").await.as_deref(), Some("untouched"));
    }
}

#[tokio::test]
async fn a_target_that_comes_back_within_its_drain_time_loses_nothing() {
    let edge = TestEdge::start().await;
    let (going, staying) = (Origin::start("going").await, Origin::start("staying").await);
    let mut circuit = by_host("lab", vec![going.target(), staying.target()]);
    circuit.traffic.timeouts.drain_s = Some(1);
    edge.serve(&circuit).await;
    let mut socket = open(&edge).await;
    circuit.targets[0].weight = 0;
    edge.serve(&circuit).await;
    circuit.targets[0].weight = 7;
    edge.serve(&circuit).await;
    // A second drain that ends after the first would have, shows that the first has cut nothing.
    let other = Origin::start("other").await;
    let mut second = by_host("second", vec![other.target()]);
    second.traffic.timeouts.drain_s = Some(1);
    edge.serve(&second).await;
    let mut cut = WebSocket::open(edge.address, "second.apps.test", "/ws").await.expect("upgraded");
    assert_eq!(cut.echo("hello").await.as_deref(), Some("hello"));
    second.targets[0].weight = 0;
    edge.serve(&second).await;
    cut.wait_for_end().await;
    assert_eq!(socket.echo("untouched").await.as_deref(), Some("untouched"));
}

#[tokio::test]
async fn with_all_weights_0_the_circuit_is_unavailable_and_what_is_open_goes_on() {
    let (edge, origin) = (
        TestEdge::start_with(|config| config.limits.drain = Duration::from_secs(60)).await,
        Origin::start("lab").await,
    );
    let mut circuit = by_host("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut socket = open(&edge).await;
    circuit.targets[0].weight = 0;
    edge.serve(&circuit).await;
    let response = edge.get("lab.apps.test", "/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(response.text().await.expect("text").contains("no_target"));
    assert_eq!(socket.echo("still there").await.as_deref(), Some("still there"));
    circuit.targets[0].weight = 1;
    edge.serve(&circuit).await;
    wait_until("service", async || edge.get("lab.apps.test", "/").await.status() == 200).await;
}
