//! The fourth step, where it comes to nothing.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::raw::RawClient;
use testkit::wait::wait_until;

use super::double::{Double, Securing};
use super::place::{Kind, Place};
use super::{Case, client, in_each};
use crate::harness::TestEdge;

const REFUSED: &str = "appproxy_edge_refusals_total{reason=\"handshake\"}";
const OPEN: &str = "appproxy_edge_connections_open";
const FAILURES: usize = 3;

/// An edge where each client has one place, and `double` secures connections.
async fn start(double: Double) -> TestEdge {
    TestEdge::start_with(|config| {
        config.client.max_connections_per_client = 1;
        config.uncounted_clients = vec!["127.0.0.1/32".parse().expect("a range")];
        config.shutdown_drain = Duration::from_secs(60);
        config.secure = Some(Arc::new(double));
    })
    .await
}

async fn open(edge: &TestEdge, kind: Kind, name: &str) -> Place {
    Place::open(edge, Case { kind, securing: Securing::Transparent }, name).await
}

#[tokio::test]
async fn a_handshake_that_fails_is_counted_and_holds_no_place_afterwards() {
    in_each(Kind::ALL, usize::MAX, async |kind| {
        let edge = start(Double::Failing(FAILURES.into())).await;
        let place = open(&edge, kind, "lab").await;
        for number in 1..=FAILURES {
            let mut socket = RawClient::connect_from(client(1), place.address).await;
            socket.exactly(1).await.expect_err("an end, and nothing said before");
            wait_until("it to be counted", async || edge.metric(REFUSED).await == number as f64).await;
            edge.wait_for_no_connection().await;
        }
        assert!(place.requests().is_empty());
        // There is one place, and it is free.
        place.seat(client(1)).await;
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_ends_with_its_port() {
    // The traffic port ends with the edge only.
    let ports = Kind::ALL.into_iter().filter(|kind| !kind.is_at_traffic());
    in_each(ports, usize::MAX, async |kind| {
        let edge = start(Double::Stuck).await;
        let place = open(&edge, kind, "lab").await;
        let mut stuck = RawClient::connect_from(client(1), place.address).await;
        wait_until("it to be in", async || edge.metric(OPEN).await == 2.0).await;
        edge.close(&place.circuit).await;
        stuck.wait_for_end().await;
        TcpListener::bind(place.address).expect("the port is free");
        edge.wait_for_no_connection().await;
        assert_eq!(edge.metric(REFUSED).await, 0.0, "it was not waited for until it was too late");
    })
    .await;
}

#[tokio::test]
async fn handshakes_that_do_not_end_hold_up_neither_others_nor_the_end_of_the_edge() {
    in_each(Kind::ALL, usize::MAX, async |kind| {
        let edge = start(Double::Stuck).await;
        let place = open(&edge, kind, "lab").await;
        let mut stuck = Vec::new();
        for number in 1..=20 {
            stuck.push(RawClient::connect_from(client(number), place.address).await);
        }
        // The test itself is served beside them.
        wait_until("all to be in", async || edge.metric(OPEN).await == 21.0).await;
        let began = Instant::now();
        edge.stop().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        for mut socket in stuck {
            socket.wait_for_end().await;
        }
    })
    .await;
}
