//! Many connections that bring a byte, or nothing.

use std::net::IpAddr;
use std::time::Duration;

use testkit::raw::{RawClient, connect_from};
use testkit::wait::{wait_until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::place::{Kind, Place};
use super::{Case, client, in_each};
use crate::harness::TestEdge;

const CONNECTIONS: u16 = 300;
const OPEN: &str = "appproxy_edge_connections_open";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_many_connections_that_say_nothing_others_are_served_and_all_of_them_go() {
    // Each has two descriptors here, and two more where it is relayed.
    in_each(Case::all(), 2, async |case| {
        let edge = TestEdge::start_with(|config| case.configure(config)).await;
        let place = Place::open(&edge, case, "lab").await;
        let mut flood = Vec::new();
        for number in 0..CONNECTIONS {
            let from = IpAddr::from([127, 0, 10, 1 + (number % 100) as u8]);
            let mut socket = RawClient::over(connect_from(from, place.address).await);
            if number % 2 == 0 {
                socket.send("G").await;
            }
            flood.push(socket);
        }
        let wanted = f64::from(CONNECTIONS);
        wait_until("all to be in", async || edge.metric(OPEN).await > wanted).await;
        let mut guest = place.seat(client(1)).await;
        guest.expect_served("a client beside them").await;
        assert!(edge.metric(OPEN).await > wanted + 1.0, "all are open still");
        drop(flood);
        wait_until("all to be gone", async || edge.metric(OPEN).await == 2.0).await;
        guest.expect_served("a client after them").await;
        drop(guest);
        edge.wait_for_no_connection().await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_says_a_byte_or_nothing_is_ended_by_the_edge() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = TestEdge::start_with(|config| {
            config.client.idle = Duration::from_millis(500);
            config.client.head = Duration::from_millis(500);
            case.configure(config);
        })
        .await;
        let idle = |circuit: &mut entities::circuit::Circuit| circuit.traffic.timeouts.idle_s = Some(1);
        let place = Place::open_changed(&edge, case, "lab", idle).await;
        let (silent, slow) = tokio::join!(said_to(&place, b""), said_to(&place, b"G"));
        assert_eq!(silent.escape_ascii().to_string(), "");
        if case.kind == Kind::Bytes {
            assert_eq!(slow, b"G", "what the target sends back");
        } else {
            assert!(slow.starts_with(b"HTTP/1.1 408 "), "{}", slow.escape_ascii());
        }
        edge.wait_for_no_connection().await;
    })
    .await;
}

/// What a client that says this, and stays, hears until the edge ends its connection.
async fn said_to(place: &Place, start: &[u8]) -> Vec<u8> {
    let mut line = place.connect(client(1)).await;
    line.write_all(start).await.expect("sends");
    line.flush().await.expect("sends");
    let mut heard = Vec::new();
    within("the end of the connection", line.read_to_end(&mut heard)).await.expect("an orderly end");
    heard
}
