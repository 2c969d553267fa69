//! The third step: how many connections a client has.

use testkit::wait::wait_until;

use super::guest::Outcome;
use super::place::{Kind, Place};
use super::{Case, client, in_each};
use crate::harness::TestEdge;

const REFUSED: &str = "appproxy_edge_refusals_total{reason=\"client_connections\"}";

async fn start(case: Case, max: usize) -> TestEdge {
    TestEdge::start_with(|config| {
        config.client.max_connections_per_client = max;
        // The test asks as often as it likes.
        config.uncounted_clients = vec!["127.0.0.1/32".parse().expect("a range")];
        case.configure(config);
    })
    .await
}

/// What one connection too many hears.
fn refusal(kind: Kind) -> Outcome {
    match kind {
        Kind::Http2 => Outcome::Calm,
        Kind::Bytes => Outcome::Reset,
        _ => Outcome::Status(429),
    }
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away_in_the_protocol_that_it_speaks() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = start(case, 2).await;
        let place = Place::open(&edge, case, "lab").await;
        let mut held = [place.seat(client(1)).await, place.seat(client(1)).await];
        let before = place.requests().len();
        let mut third = place.enter(client(1)).await;
        assert_eq!(third.ask_in_vain().await, refusal(case.kind));
        assert_eq!(edge.metric(REFUSED).await, 1.0);
        assert_eq!(place.requests().len(), before, "the target has heard nothing of it");
        place.seat(client(2)).await;
        for guest in &mut held {
            guest.expect_served("what has a place").await;
        }
        assert_eq!(edge.metric(REFUSED).await, 1.0);
        third.wait_for_end().await;
    })
    .await;
}

#[tokio::test]
async fn the_place_of_a_connection_is_free_again_when_it_ends() {
    in_each(Case::all(), usize::MAX, async |case| {
        let edge = start(case, 1).await;
        let place = Place::open(&edge, case, "lab").await;
        let mut held = place.seat(client(1)).await;
        for _ in 0..3 {
            // A tunnel and a relay hold their place as well.
            assert_eq!(place.enter(client(1)).await.ask_in_vain().await, refusal(case.kind));
            drop(held);
            edge.wait_for_no_connection().await;
            held = place.seat(client(1)).await;
        }
        assert_eq!(edge.metric(REFUSED).await, 3.0);
    })
    .await;
}

/// Places are of the edge, and whatever is open at one of its ports counts at all others.
#[tokio::test]
async fn what_is_open_at_one_kind_of_port_counts_at_every_other() {
    in_each(super::Securing::ALL, usize::MAX, async |securing| {
        let case = |kind| Case { kind, securing };
        let edge = start(case(Kind::Traffic), Kind::ALL.len()).await;
        let mut places = Vec::new();
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            places.push((kind, Place::open(&edge, case(kind), &format!("lab-{number}")).await));
        }
        let mut held = Vec::new();
        for (kind, place) in &places {
            assert_eq!(edge.metric(REFUSED).await, 0.0, "{kind:?}");
            held.push(place.seat(client(1)).await);
        }
        for (kind, place) in &places {
            assert_eq!(place.enter(client(1)).await.ask_in_vain().await, refusal(*kind), "{kind:?}");
        }
        drop(held);
        wait_until("places", async || {
            let mut guest = places[0].1.enter(client(1)).await;
            guest.ask().await == Outcome::Served
        })
        .await;
    })
    .await;
}
