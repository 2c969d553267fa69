//! The second step: an edge that has no memory for another connection.

use testkit::wait::wait_until;

use super::guest::Outcome;
use super::place::{Kind, Place};
use super::{Case, client, in_each};
use crate::memory::{become_resident, start_with};

const REFUSED: &str = "appproxy_edge_refusals_total{reason=\"memory\"}";

#[tokio::test]
async fn near_the_ceiling_new_connections_are_told_so_and_open_ones_go_on() {
    in_each(Case::all(), usize::MAX, async |case| {
        let (edge, resident) = start_with(|config| case.configure(config)).await;
        let place = Place::open(&edge, case, "lab").await;
        let mut open = place.seat(client(1)).await;
        let before = place.requests().len();

        become_resident(&edge, &resident, 900).await;
        let mut late = place.enter(client(1)).await;
        let wanted = if case.kind == Kind::Bytes { Outcome::Reset } else { Outcome::Status(503) };
        assert_eq!(late.ask_in_vain().await, wanted);
        late.wait_for_end().await;
        wait_until("it to be counted", async || edge.metric(REFUSED).await == 1.0).await;
        assert_eq!(place.requests().len(), before, "the target has heard nothing of it");
        open.expect_served("what was open before").await;

        become_resident(&edge, &resident, 100).await;
        place.seat(client(1)).await;
        assert_eq!(edge.metric(REFUSED).await, 1.0);
    })
    .await;
}

/// It is served no request, so it need not be given long for one.
#[tokio::test]
async fn a_silent_connection_that_came_near_the_ceiling_is_not_kept() {
    let requests = Case::all().filter(|case| matches!(case.kind, Kind::Traffic | Kind::Port));
    in_each(requests, usize::MAX, async |case| {
        let (edge, resident) = start_with(|config| case.configure(config)).await;
        let place = Place::open(&edge, case, "lab").await;
        become_resident(&edge, &resident, 900).await;
        place.enter(client(1)).await.wait_for_end().await;
    })
    .await;
}
