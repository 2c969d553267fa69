//! WebSockets live as long as their own circuit, whatever happens to others.

use std::time::Duration;

use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::websocket::WebSocket;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Error;

use crate::harness::{TestEdge, at, by_host, by_port};

#[tokio::test]
async fn a_websocket_echoes_through_a_subdomain_and_through_a_port() {
    let (edge, origin, port) = (TestEdge::start().await, Origin::start("lab").await, free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.serve(&by_port("port", port, vec![origin.target()])).await;
    let mut by_name = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");
    let mut by_number = WebSocket::open(at(port), "x.test", "/ws").await.expect("upgraded");
    for text in ["one", "two"] {
        assert_eq!(by_name.echo(text).await.as_deref(), Some(text));
        assert_eq!(by_number.echo(text).await.as_deref(), Some(text));
    }
    assert_eq!(edge.metric("appproxy_edge_upgrades_total").await, 2.0);
}

#[tokio::test]
async fn websocket_survives_changes_of_its_circuit_changes_of_others_and_a_lost_watch() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::ZERO).await;
    let (origin, port) = (Origin::start("lab").await, free_port());
    let mut circuit = by_host("lab", vec![origin.target()]);
    circuit.traffic.timeouts.drain_s = Some(60);
    edge.serve(&circuit).await;
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");

    circuit.targets = vec![];
    edge.serve(&circuit).await;
    assert_eq!(socket.echo("after its own change").await.as_deref(), Some("after its own change"));

    let others = [by_host("other", vec![origin.target()]), by_port("port", port, vec![origin.target()])];
    for other in &others {
        edge.serve(other).await;
        edge.serve(other).await;
        edge.close(other).await;
    }
    assert_eq!(socket.echo("after others").await.as_deref(), Some("after others"));

    edge.registry.end_watches();
    edge.serve(&by_host("late", vec![origin.target()])).await;
    assert_eq!(socket.echo("after a list").await.as_deref(), Some("after a list"));
}

#[tokio::test]
async fn the_end_of_a_circuit_cuts_its_websockets_after_the_drain_time_and_no_other() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::from_millis(300)).await;
    let origin = Origin::start("lab").await;
    let (ending, staying) = (by_host("ending", vec![origin.target()]), by_host("staying", vec![origin.target()]));
    edge.serve(&ending).await;
    edge.serve(&staying).await;
    let mut cut = WebSocket::open(edge.address, "ending.apps.test", "/ws").await.expect("upgraded");
    let mut kept = WebSocket::open(edge.address, "staying.apps.test", "/ws").await.expect("upgraded");
    edge.close(&ending).await;
    assert_eq!(cut.echo("in the drain time").await.as_deref(), Some("in the drain time"));
    cut.wait_for_end().await;
    assert_eq!(kept.echo("still here").await.as_deref(), Some("still here"));
}

#[tokio::test]
async fn a_key_that_is_opened_again_is_a_new_life_and_the_old_one_ends() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::ZERO).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut old = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    old.wait_for_end().await;
    let mut new = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");
    assert_eq!(new.echo("new").await.as_deref(), Some("new"));
}

/// Inside of pingora one in four of these closed: it took a quick `101` for the end of the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_upgrades_at_once_keeps_its_websocket() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    // Several at once keep both threads awake, so that the target answers while the edge is still at it.
    let mut opening = JoinSet::new();
    for _ in 0..4 {
        let address = edge.address;
        opening.spawn(async move {
            for number in 0..50 {
                let mut socket = WebSocket::open(address, "lab.apps.test", "/ws").await.expect("upgraded");
                assert_eq!(socket.echo("at once").await.as_deref(), Some("at once"), "socket {number}");
            }
        });
    }
    while let Some(ended) = opening.join_next().await {
        ended.expect("every socket echoes");
    }
}

#[tokio::test]
async fn a_target_that_refuses_to_upgrade_is_heard() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    for _ in 0..5 {
        let refused = WebSocket::open(edge.address, "lab.apps.test", "/no-websocket").await;
        assert!(matches!(refused, Err(Error::Http(response)) if response.status() == 200));
    }
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");
    assert_eq!(socket.echo("still").await.as_deref(), Some("still"));
}
