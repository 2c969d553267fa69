//! How connections end with their port, and with the edge.

use std::time::{Duration, Instant};

use testkit::raw::RawClient;
use testkit::wait::wait_until;
use tokio::net::TcpStream;

use super::place::Place;
use super::{Case, client, in_each};
use crate::harness::TestEdge;

const LONG_S: u32 = 600;
const SHORT_S: u32 = 1;

async fn start(case: Case, shutdown_drain: Duration) -> TestEdge {
    TestEdge::start_with(|config| {
        config.shutdown_drain = shutdown_drain;
        case.configure(config);
    })
    .await
}

#[tokio::test]
async fn the_end_of_a_circuit_ends_what_is_idle_at_once_and_lets_what_is_busy_finish() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = start(case, Duration::from_secs(60)).await;
        let long = |circuit: &mut entities::circuit::Circuit| circuit.traffic.timeouts.drain_s = Some(LONG_S);
        let place = Place::open_changed(&edge, case, "lab", long).await;
        let neighbour = Place::open_changed(&edge, case, "neighbour", long).await;
        let idle = if case.kind.is_relayed() { None } else { Some(place.seat(client(1)).await) };
        let silent = if case.kind.is_relayed() { None } else { Some(place.connect(client(1)).await) };
        let (mut busy, mut beside) = (place.enter(client(1)).await, neighbour.seat(client(1)).await);
        busy.begin(&place).await;

        let began = Instant::now();
        edge.close(&place.circuit).await;
        match idle {
            // A connection to the traffic port is of no circuit.
            Some(mut idle) if case.kind.is_at_traffic() => {
                assert_eq!(idle.fetch("/", &[]).await.0, 404);
            }
            Some(idle) => idle.wait_for_end().await,
            None => {}
        }
        if !case.kind.is_at_traffic() {
            if let Some(line) = silent {
                RawClient::over(line).wait_for_end().await;
            }
            // Half of the time that a connection has for its first bytes.
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            TcpStream::connect(place.address).await.expect_err("a closed port takes nobody");
        }
        busy.finish(&place).await;
        beside.expect_served("what is of another circuit").await;
        assert_eq!(edge.metric("appproxy_edge_drains_cut_total").await, 0.0);
    })
    .await;
}

#[tokio::test]
async fn what_outlives_the_drain_time_of_its_circuit_is_cut_and_nothing_else() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = start(case, Duration::from_secs(60)).await;
        let short = |circuit: &mut entities::circuit::Circuit| circuit.traffic.timeouts.drain_s = Some(SHORT_S);
        let place = Place::open_changed(&edge, case, "lab", short).await;
        let neighbour = Place::open_changed(&edge, case, "neighbour", short).await;
        let (mut busy, mut beside) = (place.enter(client(1)).await, neighbour.enter(client(1)).await);
        busy.begin(&place).await;
        beside.begin(&neighbour).await;
        let began = Instant::now();
        edge.close(&place.circuit).await;
        busy.expect_cut().await;
        assert!(began.elapsed() >= Duration::from_secs(SHORT_S.into()), "cut after {:?}", began.elapsed());
        beside.finish(&neighbour).await;
        assert_eq!(edge.metric("appproxy_edge_drains_cut_total").await, 1.0);
    })
    .await;
}

#[tokio::test]
async fn an_edge_that_stops_ends_what_is_idle_and_waits_for_what_is_busy() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = start(case, Duration::from_secs(60)).await;
        let place = Place::open(&edge, case, "lab").await;
        let idle = if case.kind.is_relayed() { None } else { Some(place.seat(client(1)).await) };
        let silent = if case.kind.is_relayed() { None } else { Some(place.connect(client(1)).await) };
        let mut busy = place.enter(client(1)).await;
        busy.begin(&place).await;

        edge.begin_stop();
        wait_until("the port to be closed", async || TcpStream::connect(place.address).await.is_err()).await;
        if let Some(idle) = idle {
            idle.wait_for_end().await;
        }
        if let Some(line) = silent {
            RawClient::over(line).wait_for_end().await;
        }
        busy.finish(&place).await;
        let stopping = tokio::spawn(edge.stop());
        drop(busy);
        testkit::wait::within("the end of the edge", stopping).await.expect("no panic");
    })
    .await;
}

#[tokio::test]
async fn what_outlives_the_drain_time_of_the_edge_is_cut() {
    in_each(Case::all(), usize::MAX, async |case| {
        let drain_time = Duration::from_millis(300);
        let edge = start(case, drain_time).await;
        let place = Place::open(&edge, case, "lab").await;
        let mut busy = place.enter(client(1)).await;
        busy.begin(&place).await;
        let began = Instant::now();
        edge.begin_stop();
        busy.expect_cut().await;
        assert!(began.elapsed() >= drain_time, "cut after {:?}", began.elapsed());
        edge.stop().await;
    })
    .await;
}
