//! `/v2/circuits`.
//!
//! Invariant: `201`, `200` and `204` of a change mean that every live worker has applied it; anything less is `202`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use entities::circuit::{CircuitPatch, CircuitSpec, CircuitStatus};
use entities::ids::{AuthorityName, Generation, OwnerId, ServiceName, WorkerId};
use entities::limits::{DEFAULT_PAGE, MAX_PAGE};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use super::audit::{self, Change};
use super::openapi::{ChangeCircuit, OpenCircuit};
use super::problem::Problem;
use super::query::Query;
use super::{Api, Handled, answer, body, json, to_the_end, with_api};
use crate::circuits::view::CircuitView;
use crate::circuits::{CircuitName, CloseResult, OpenResult};
use crate::store::ListFilter;

/// The longest that `?wait_s=` may wait.
const MAX_WAIT_S: u64 = 60;

/// One page of circuits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CircuitPage {
    /// In the order of their keys.
    items: Vec<CircuitView>,
    /// Give it as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Who has not let go of closed circuits yet.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PendingView {
    /// Workers that may still take connections for a moment.
    #[schema(value_type = Vec<String>)]
    pending: Vec<WorkerId>,
}

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let collection = warp::path!("v2" / "circuits");
    let item = warp::path!("v2" / "circuits" / String);
    let open = collection
        .and(warp::post())
        .and(with_api(api))
        .and(warp::body::stream())
        .then(|api: Arc<Api>, headers: HeaderMap, body| async move { answer(open(api, &headers, body).await) });
    let list = collection
        .and(warp::get())
        .and(with_api(api))
        .and(warp::query::<Vec<(String, String)>>())
        .then(|api: Arc<Api>, headers: HeaderMap, pairs| async move { answer(list(&api, &headers, pairs).await) });
    let show = item.and(warp::get()).and(with_api(api)).and(warp::query::<Vec<(String, String)>>()).then(
        |name: String, api: Arc<Api>, headers: HeaderMap, pairs| async move {
            answer(show(&api, &headers, &name, pairs).await)
        },
    );
    let change = item.and(warp::patch()).and(with_api(api)).and(warp::body::stream()).then(
        |name: String, api: Arc<Api>, headers: HeaderMap, body| async move {
            answer(change(api, &headers, &name, body).await)
        },
    );
    let close = item.and(warp::delete()).and(with_api(api)).then(
        |name: String, api: Arc<Api>, headers: HeaderMap| async move { answer(close(api, &headers, &name).await) },
    );
    open.or(list).unify().or(show).unify().or(change).unify().or(close).unify().boxed()
}

/// Opens a circuit.
///
/// The key is made of owner, service and variant. Opening a key that is open with the same content answers with the
/// circuit that is there, so a manager may repeat itself.
#[utoipa::path(
    post,
    path = "/v2/circuits",
    tag = "circuits",
    request_body = OpenCircuit,
    responses(
        (status = 201, description = "Open, and every live worker of the authority serves it", body = CircuitView,
            headers(
                ("Location" = String, description = "Where the circuit is"),
                ("ETag" = String, description = "Its generation"),
            )),
        (status = 200, description = "It was open with the same content, and is served", body = CircuitView),
        (status = 202, description = "Stored; `applied.pending` names the workers that do not serve it yet",
            body = CircuitView),
        (status = 400, description = "`invalid_request`, `not_supported` (each fault is in `errors`), \
            `body_too_large` or `incomplete_body`"),
        (status = 409, description = "`other_content`, `port_taken`, `port_resting`, `port_unavailable`, \
            `subdomain_taken` or `subdomain_resting`"),
        (status = 503, description = "`no_authority`, `no_free_port`, `ports_refused`, `store_unavailable` or \
            `overloaded`; see `Retry-After`"),
    )
)]
pub(super) async fn open(
    api: Arc<Api>,
    headers: &HeaderMap,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Handled {
    api.check_manager(headers)?;
    let body = body::read(stream).await?;
    let spec = CircuitSpec::read(&body::parse_value(&body)?)?;
    to_the_end(async move {
        let (status, view) = match api.circuits.open(spec).await? {
            OpenResult::Opened(view) => (StatusCode::CREATED, view),
            OpenResult::Existed(view) => (StatusCode::OK, view),
            OpenResult::Pending(view) => (StatusCode::ACCEPTED, view),
        };
        let mut response = circuit(status, &view);
        if let Ok(location) = HeaderValue::try_from(format!("/v2/circuits/{}", view.key)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    })
    .await
}

/// Lists circuits in the order of their keys.
#[utoipa::path(
    get,
    path = "/v2/circuits",
    tag = "circuits",
    params(
        ("session_id" = Option<String>, Query, description = "Only of this session or endpoint"),
        ("service" = Option<String>, Query, description = "Only of this service"),
        ("status" = Option<String>, Query, description = "Only `PENDING`, `HEALTHY` or `UNHEALTHY` ones"),
        ("authority" = Option<String>, Query, description = "Only at this authority"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "At most so many; 100 by default"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "One page", body = CircuitPage),
        (status = 400, description = "A parameter is unknown, stands twice, does not parse, or is not supported yet"),
    )
)]
pub(super) async fn list(api: &Api, headers: &HeaderMap, pairs: Vec<(String, String)>) -> Handled {
    api.check_read(headers)?;
    let mut query = Query::new(pairs);
    let owner =
        query.parse_with("session_id", |text| OwnerId::parse_canonical(text).map_err(|error| error.to_string()));
    let service = query.parse::<ServiceName>("service");
    let authority = query.parse::<AuthorityName>("authority");
    let status = query.parse_with("status", |text| {
        let known = CircuitStatus::WORDS.iter().find(|(word, _)| *word == text).map(|(_, status)| *status);
        known.ok_or_else(|| "must be PENDING, HEALTHY or UNHEALTHY".to_owned())
    });
    let limit = query.integer("limit", 1, MAX_PAGE).unwrap_or(DEFAULT_PAGE);
    let after = query.take("cursor");
    query.not_supported("idle_for_s");
    query.finish()?;
    let filter = ListFilter { owner, service, status, authority, after, limit: limit + 1 };
    let mut items = api.circuits.list(&filter).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > wanted;
    items.truncate(wanted);
    let next_cursor = items.last().filter(|_| has_more).map(|last| last.key.clone());
    Ok(json(StatusCode::OK, &CircuitPage { items, next_cursor }))
}

/// Shows a circuit.
#[utoipa::path(
    get,
    path = "/v2/circuits/{circuit}",
    tag = "circuits",
    params(
        ("circuit" = String, Path, description = "Key or id"),
        ("wait_s" = Option<u64>, Query, minimum = 0, maximum = 60,
            description = "Wait up to so long until every live worker serves it"),
    ),
    responses(
        (status = 200, description = "The circuit; `applied` says which workers serve it", body = CircuitView,
            headers(("ETag" = String, description = "Its generation"))),
        (status = 400, description = "A parameter is unknown, stands twice or does not parse"),
        (status = 404, description = "`no_such_circuit`"),
    )
)]
pub(super) async fn show(api: &Api, headers: &HeaderMap, name: &str, pairs: Vec<(String, String)>) -> Handled {
    api.check_read(headers)?;
    let name = parse_name(name)?;
    let mut query = Query::new(pairs);
    let wait_s = query.integer("wait_s", 0, MAX_WAIT_S).unwrap_or(0);
    query.finish()?;
    let view = api.circuits.show(&name, Duration::from_secs(wait_s)).await?;
    Ok(circuit(StatusCode::OK, &view))
}

/// Changes a circuit: each field that is given replaces the old one whole.
///
/// Open connections stay; where the circuit is never changes.
#[utoipa::path(
    patch,
    path = "/v2/circuits/{circuit}",
    tag = "circuits",
    params(
        ("circuit" = String, Path, description = "Key or id"),
        ("If-Match" = Option<String>, Header, description = "Change only if the circuit has this generation"),
    ),
    request_body = ChangeCircuit,
    responses(
        (status = 200, description = "Changed, or it was like that; every live worker serves it", body = CircuitView,
            headers(("ETag" = String, description = "Its generation"))),
        (status = 202, description = "Stored; `applied.pending` names the workers that do not serve it yet",
            body = CircuitView),
        (status = 400, description = "`invalid_request`, `not_supported` (each fault is in `errors`), \
            `invalid_if_match`, `body_too_large` or `incomplete_body`"),
        (status = 404, description = "`no_such_circuit`"),
        (status = 412, description = "`generation_mismatch`: somebody else changed it"),
    )
)]
pub(super) async fn change(
    api: Arc<Api>,
    headers: &HeaderMap,
    name: &str,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Handled {
    api.check_manager(headers)?;
    let name = parse_name(name)?;
    let expected = if_match(headers)?;
    let body = body::read(stream).await?;
    let patch = CircuitPatch::read(&body::parse_value(&body)?)?;
    to_the_end(async move {
        let (view, is_served) = api.circuits.change(&name, expected, &patch).await?;
        let status = if is_served { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok(circuit(status, &view))
    })
    .await
}

/// Closes a circuit.
///
/// Closing again by key is a success while the key is remembered (ten minutes).
#[utoipa::path(
    delete,
    path = "/v2/circuits/{circuit}",
    tag = "circuits",
    params(("circuit" = String, Path, description = "Key or id")),
    responses(
        (status = 204, description = "Closed: no live worker takes a new connection for it"),
        (status = 202, description = "Stored; `pending` names the workers that have not let go of it yet",
            body = PendingView),
        (status = 404, description = "`no_such_circuit`"),
    )
)]
pub(super) async fn close(api: Arc<Api>, headers: &HeaderMap, name: &str) -> Handled {
    api.check_manager(headers)?;
    let name = parse_name(name)?;
    to_the_end(async move { Ok(closed(api.circuits.close_one(&name).await?)) }).await
}

/// `204` when no live worker serves it any more, else `202` with the ones that have not said.
pub(super) fn closed(result: CloseResult) -> Response {
    match result {
        CloseResult::Closed { count } => {
            audit::with(Change { closed: Some(count), ..Change::default() }, StatusCode::NO_CONTENT.into_response())
        }
        CloseResult::Pending { count, pending } => {
            let response = json(StatusCode::ACCEPTED, &PendingView { pending });
            audit::with(Change { closed: Some(count), ..Change::default() }, response)
        }
    }
}

pub(super) fn circuit(status: StatusCode, view: &CircuitView) -> Response {
    let mut response = json(status, view);
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", view.generation)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    let change = Change { circuit: Some(view.key.clone()), generation: Some(view.generation), closed: None };
    audit::with(change, response)
}

/// The generation that the caller saw (RFC 9110 §13.1.1): `"3"`, or `*` for any.
fn if_match(headers: &HeaderMap) -> Result<Option<Generation>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.trim_matches('"').parse::<u64>();
    number.map(|number| Some(Generation(number))).map_err(|_| {
        let detail = "If-Match takes one generation, as in the ETag of the circuit";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_if_match", detail)
    })
}

pub(super) fn parse_name(segment: &str) -> Result<CircuitName, Problem> {
    let no_such = || Problem::new(StatusCode::NOT_FOUND, "no_such_circuit", "there is no such circuit");
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| no_such())?;
    if let Ok(id) = decoded.parse() {
        return Ok(CircuitName::Id(id));
    }
    decoded.parse().map(CircuitName::Key).map_err(|_| no_such())
}
