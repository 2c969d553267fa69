//! Where the edge does not connect to, whoever asks.

use testkit::origin::{Origin, target};
use testkit::ports::free_port;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, by_host, by_port, name_of};

#[tokio::test]
async fn a_forbidden_address_is_not_connected_to_and_another_target_is_used() {
    let edge =
        TestEdge::start_with(|config| config.targets.denied = vec!["127.0.0.2/32".parse().expect("valid")]).await;
    let (origin, port) = (Origin::start("allowed").await, free_port());
    let denied = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.expect("a free port");
    edge.serve(&by_host("lab", vec![target("127.0.0.2", port), origin.target()])).await;
    for _ in 0..4 {
        assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "allowed");
    }
    edge.serve(&by_host("only", vec![target("127.0.0.2", port)])).await;
    assert_eq!(edge.get("only.apps.test", "/").await.status(), 502);
    assert!(WebSocket::open(edge.address, "only.apps.test", "/ws").await.is_err());
    let faults = edge.metric("appproxy_edge_target_faults_total{reason=\"forbidden\"}").await;
    assert!(faults >= 4.0, "{faults}");
    let nobody = std::future::poll_fn(|context| std::task::Poll::Ready(denied.poll_accept(context).is_pending())).await;
    assert!(nobody, "somebody has connected");
}

#[tokio::test]
async fn loopback_is_out_of_reach_unless_the_edge_allows_it_by_name_too() {
    let edge = TestEdge::start_with(|config| config.targets.allows_loopback = false).await;
    let origin = Origin::start("lab").await;
    for (name, host) in [("one", "127.0.0.1"), ("two", "localhost"), ("three", "127.0.0.9")] {
        edge.serve(&by_host(name, vec![target(host, origin.address().port())])).await;
        assert_eq!(edge.get(&format!("{name}.apps.test"), "/").await.status(), 502, "{host}");
    }
    assert!(origin.requests().is_empty());
}

/// Else a circuit would be a way to the worker API, or an endless loop.
#[tokio::test]
async fn the_edge_does_not_connect_to_itself_nor_to_its_coordinator() {
    let (edge, origin, port) = (TestEdge::start().await, Origin::start("lab").await, free_port());
    edge.serve(&by_port("other", port, vec![origin.target()])).await;
    let own = [edge.address.port(), port, edge.coordinator.address().port()];
    for (index, own) in own.into_iter().enumerate() {
        let name = format!("loop{index}");
        edge.serve(&by_host(&name, vec![target("127.0.0.1", own)])).await;
        assert_eq!(edge.get(&format!("{name}.apps.test"), "/health").await.status(), 502, "{own}");
    }
    assert!(origin.requests().is_empty());
}
