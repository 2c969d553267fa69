//! `/v2/sessions`: what ends with a session.
//!
//! Invariant: closing the circuits of a session that has none is a success, so that a manager may repeat itself.

use std::sync::Arc;

use entities::ids::OwnerId;
use http::{HeaderMap, StatusCode};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::circuits::PendingView;
use super::problem::Problem;
use super::{Api, Handled, answer, to_the_end, with_api};

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    warp::path!("v2" / "sessions" / String)
        .and(warp::delete())
        .and(with_api(api))
        .then(|session: String, api: Arc<Api>, headers: HeaderMap| async move {
            answer(close_all(api, &headers, &session).await)
        })
        .boxed()
}

/// Closes every circuit of a session; none is a success too.
#[utoipa::path(
    delete,
    path = "/v2/sessions/{session_id}",
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session or endpoint")),
    responses(
        (status = 204, description = "Closed: no live worker takes a new connection for any of them"),
        (status = 202, description = "Stored; `pending` names the workers that have not let go yet",
            body = PendingView),
        (status = 400, description = "`invalid_session_id`"),
    )
)]
pub(super) async fn close_all(api: Arc<Api>, headers: &HeaderMap, session: &str) -> Handled {
    api.check_manager(headers)?;
    let owner = OwnerId::parse_canonical(session)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "invalid_session_id", error.to_string()))?;
    to_the_end(async move { Ok(super::circuits::closed(api.circuits.close_owner(owner).await?)) }).await
}
