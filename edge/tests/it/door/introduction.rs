//! The first step: a proxy in front of the edge says whose a connection is.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use entities::circuit::ProxyProtocol;
use testkit::raw::RawClient;
use testkit::wait::wait_until;

use super::place::{Kind, Place};
use super::{Case, client, in_each};
use crate::harness::TestEdge;
use crate::introductions::{REFUSED, VERSION_1, VERSION_2, introducing, proxy};

async fn start(case: Case) -> TestEdge {
    TestEdge::start_with(|config| {
        introducing(config);
        config.shutdown_drain = Duration::from_secs(60);
        case.configure(config);
    })
    .await
}

#[tokio::test]
async fn the_target_learns_the_client_whom_a_proxy_introduces() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = start(case).await;
        let place = Place::open_changed(&edge, case, "lab", |circuit| {
            circuit.traffic.proxy_protocol = (case.kind == Kind::Bytes).then_some(ProxyProtocol::V1);
        })
        .await;
        for header in [VERSION_1, VERSION_2] {
            let mut guest = place.enter_introduced(proxy(), header).await;
            if case.kind == Kind::Bytes {
                guest.raw().send("hello").await;
                // The target is told in the words of its circuit, and sends everything back.
                let wanted = [VERSION_1, b"hello"].concat();
                assert_eq!(guest.raw().exactly(wanted.len()).await.expect("an echo"), wanted);
            } else {
                guest.expect_served("an introduced client").await;
                let request = place.requests().pop().expect("it arrived");
                assert_eq!(request.header_all("x-forwarded-for"), ["198.51.100.7"]);
            }
        }
        assert_eq!(edge.metric(REFUSED).await, 0.0);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_not_introduced_is_turned_away_and_counted() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = start(case).await;
        let place = Place::open(&edge, case, "lab").await;
        let mut refused = 0.0;
        for start in [
            &b"GET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 99999\r\nGET / HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        ] {
            let mut socket = RawClient::connect_from(proxy(), place.address).await;
            socket.send(start).await;
            socket.exactly(1).await.expect_err("an end, and nothing said before");
            refused += 1.0;
        }
        wait_until("all to be counted", async || edge.metric(REFUSED).await == refused).await;
        assert!(place.requests().is_empty());
        // Whoever is no proxy needs no header.
        place.seat(client(1)).await;
        assert_eq!(edge.metric(REFUSED).await, refused);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_waits_for_its_header_holds_neither_its_port_nor_the_edge_up() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = start(case).await;
        let (place, other) = (Place::open(&edge, case, "lab").await, Place::open(&edge, case, "other").await);
        let mut waiting = RawClient::connect_from(proxy(), place.address).await;
        waiting.send("PROXY ").await;
        let is_in = async || edge.metric("appproxy_edge_connections_open").await >= 2.0;
        wait_until("the connection to be in", is_in).await;
        if !case.kind.is_at_traffic() {
            edge.close(&place.circuit).await;
            waiting.wait_for_end().await;
            TcpListener::bind(place.address).expect("the port is free");
            edge.wait_for_no_connection().await;
            assert_eq!(edge.metric(REFUSED).await, 0.0, "it was not waited for until it was too late");
            waiting = RawClient::connect_from(proxy(), other.address).await;
            waiting.send("PROXY ").await;
            wait_until("the connection to be in", is_in).await;
        }
        let began = Instant::now();
        edge.stop().await;
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        waiting.wait_for_end().await;
    })
    .await;
}
