//! What is said of a connection that is secured: to targets, and in cookies.

use super::double::Securing;
use super::place::{Kind, Place};
use super::{Case, client, in_each};
use crate::access::Guarded;
use crate::harness::TestEdge;

fn scheme(case: Case) -> &'static str {
    if case.securing == Securing::Plain { "http" } else { "https" }
}

#[tokio::test]
async fn the_target_learns_whether_the_connection_is_secured() {
    let spoken = Case::all().filter(|case| case.kind != Kind::Bytes);
    in_each(spoken, usize::MAX, async |case| {
        let edge = TestEdge::start_with(|config| case.configure(config)).await;
        let place = Place::open(&edge, case, "lab").await;
        place.seat(client(1)).await;
        let request = place.requests().pop().expect("it arrived");
        assert_eq!(request.header_all("x-forwarded-proto"), [scheme(case)]);
        let forwarded = request.header("forwarded").expect("a field");
        assert!(forwarded.ends_with(&format!("proto={}", scheme(case))), "{forwarded}");
    })
    .await;
}

#[tokio::test]
async fn the_cookie_for_a_ticket_is_bound_to_secured_connections_where_they_are() {
    let answering = Case::all().filter(|case| !case.kind.is_relayed());
    in_each(answering, usize::MAX, async |case| {
        let guarded = Guarded::start_with(|config| case.configure(config)).await;
        let place = Place::open_changed(&guarded.edge, case, "lab", |circuit| circuit.access.public = false).await;
        let mut guest = place.enter(client(1)).await;
        assert_eq!(guest.fetch("/", &[]).await.0, 401);
        let ticket = format!("/.appproxy/ticket?t={}", guarded.ticket(&place.circuit));
        let (status, cookie) = guest.fetch(&ticket, &[]).await;
        let cookie = cookie.expect("a cookie");
        assert_eq!(status, 303);
        if case.securing == Securing::Plain {
            assert!(cookie.starts_with("appproxy-pass-") && !cookie.contains("Secure"), "{cookie}");
        } else {
            assert!(cookie.starts_with("__Host-appproxy-pass-") && cookie.ends_with("; Secure"), "{cookie}");
        }
        let pair = cookie.split(';').next().expect("a pair");
        assert_eq!(guest.fetch("/", &[("cookie", pair)]).await.0, 200);
        assert_eq!(place.requests().len(), 1, "the target has heard of nothing but the last");
    })
    .await;
}
