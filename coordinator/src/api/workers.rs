//! `/v2/workers`: edges come, say that they live, and go.
//!
//! Invariant: a key of scope worker acts only for the authorities that it names.

use std::sync::Arc;

use bytes::Buf;
use entities::authority::Scheme;
use entities::ids::{AuthorityName, BootId, WorkerId};
use entities::limits::MAX_TARGET_REPORTS;
use entities::worker::{Heartbeat, Registration, WorkerStatus};
use futures_util::Stream;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use super::openapi::{RegisterWorker, WorkerHeartbeat};
use super::problem::Problem;
use super::query::Query;
use super::{Api, Handled, answer, body, json, to_the_end, with_api};
use crate::keys::Scope;
use crate::workers::WorkerInfo;

/// One worker.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkerView {
    /// Its name.
    id: String,
    /// What it serves.
    authority: String,
    /// `ALIVE`, `LAGGING`, `DRAINING` or `LOST`.
    #[schema(value_type = String)]
    status: WorkerStatus,
    /// The program's version.
    version: String,
    /// Where the coordinator reaches it.
    api_url: String,
    /// Its share of the authority's traffic.
    weight: i32,
    /// Which run of the process.
    boot_id: Uuid,
    /// Circuits in its table, as it said last.
    circuits: i64,
    /// Client connections, as it said last.
    connections: i64,
    /// The last heartbeat.
    #[serde(with = "time::serde::rfc3339")]
    seen_at: OffsetDateTime,
}

/// Every worker.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkerList {
    /// In the order of their names.
    items: Vec<WorkerView>,
}

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let item = warp::path!("v2" / "workers" / String);
    let list = warp::path!("v2" / "workers")
        .and(warp::get())
        .and(with_api(api))
        .then(|api: Arc<Api>, headers: HeaderMap| async move { answer(list(&api, &headers).await) });
    let show = item
        .and(warp::get())
        .and(with_api(api))
        .then(|id: String, api: Arc<Api>, headers: HeaderMap| async move { answer(show(&api, &headers, &id).await) });
    let register = item.and(warp::put()).and(with_api(api)).and(warp::body::stream()).then(
        |id: String, api: Arc<Api>, headers: HeaderMap, body| async move {
            answer(register(api, &headers, &id, body).await)
        },
    );
    let heartbeat = warp::path!("v2" / "workers" / String / "heartbeat")
        .and(warp::post())
        .and(with_api(api))
        .and(warp::body::stream())
        .then(|id: String, api: Arc<Api>, headers: HeaderMap, body| async move {
            answer(heartbeat(&api, &headers, &id, body).await)
        });
    let leave =
        item.and(warp::delete()).and(with_api(api)).and(warp::query::<Vec<(String, String)>>()).then(
            |id: String, api: Arc<Api>, headers: HeaderMap, pairs| async move {
                answer(leave(api, &headers, &id, pairs).await)
            },
        );
    list.or(show).unify().or(register).unify().or(heartbeat).unify().or(leave).unify().boxed()
}

/// Lists all workers.
#[utoipa::path(
    get,
    path = "/v2/workers",
    tag = "workers",
    responses((status = 200, description = "In the order of their names", body = WorkerList))
)]
pub(super) async fn list(api: &Api, headers: &HeaderMap) -> Handled {
    api.check_read(headers)?;
    let items = api.workers.list().await?.into_iter().map(WorkerView::from).collect();
    Ok(json(StatusCode::OK, &WorkerList { items }))
}

/// Shows a worker.
#[utoipa::path(
    get,
    path = "/v2/workers/{worker_id}",
    tag = "workers",
    params(("worker_id" = String, Path, description = "The worker")),
    responses(
        (status = 200, description = "The worker", body = WorkerView),
        (status = 404, description = "`no_such_worker`"),
    )
)]
pub(super) async fn show(api: &Api, headers: &HeaderMap, id: &str) -> Handled {
    api.check_read(headers)?;
    let id = parse_id(id)?;
    let found = api.workers.list().await?.into_iter().find(|worker| worker.stored.id == id);
    let found = found.ok_or_else(no_such_worker)?;
    Ok(json(StatusCode::OK, &WorkerView::from(found)))
}

/// An edge says who it is and what it serves.
///
/// Another run takes a worker's name over when the old one is silent or answers as the new one.
#[utoipa::path(
    put,
    path = "/v2/workers/{worker_id}",
    tag = "workers",
    params(("worker_id" = String, Path, description = "The worker")),
    request_body = RegisterWorker,
    responses(
        (status = 204, description = "Registered; the coordinator now asks it how far it is"),
        (status = 400, description = "`invalid_request`, `invalid_api_url`, `body_too_large` or `incomplete_body`"),
        (status = 404, description = "`no_such_worker`: the name is none"),
        (status = 409, description = "`worker_id_in_use` by another live process, or `authority_differs` from what \
            another live worker says"),
    )
)]
pub(super) async fn register(
    api: Arc<Api>,
    headers: &HeaderMap,
    id: &str,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Handled {
    let scope = api.check_worker(headers)?;
    let id = parse_id(id)?;
    let body = body::read(stream).await?;
    let registration: Registration = body::parse(&body)?;
    check_authority(&scope, &registration.authority.name)?;
    if let Some(known) = api.workers.find(&id).await? {
        check_authority(&scope, &known.authority)?;
    }
    check_api_url(&registration.api_url)?;
    to_the_end(async move {
        api.workers.register(&id, &registration).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

/// An edge says that it lives.
#[utoipa::path(
    post,
    path = "/v2/workers/{worker_id}/heartbeat",
    tag = "workers",
    params(("worker_id" = String, Path, description = "The worker")),
    request_body = WorkerHeartbeat,
    responses(
        (status = 204, description = "Noted"),
        (status = 400, description = "`invalid_request`, `too_many_targets`, `body_too_large` or `incomplete_body`"),
        (status = 404, description = "`no_such_worker`: register"),
        (status = 409, description = "`not_registered`: another run has the name; register"),
    )
)]
pub(super) async fn heartbeat(
    api: &Api,
    headers: &HeaderMap,
    id: &str,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Handled {
    let scope = api.check_worker(headers)?;
    let id = parse_id(id)?;
    let beat: Heartbeat = body::parse(&body::read(stream).await?)?;
    if beat.targets.len() > MAX_TARGET_REPORTS {
        let detail = format!("at most {MAX_TARGET_REPORTS} targets in one heartbeat");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "too_many_targets", detail));
    }
    let known = api.workers.find(&id).await?.ok_or_else(no_such_worker)?;
    check_authority(&scope, &known.authority)?;
    api.workers.heartbeat(&known, &beat).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// An edge leaves.
#[utoipa::path(
    delete,
    path = "/v2/workers/{worker_id}",
    tag = "workers",
    params(
        ("worker_id" = String, Path, description = "The worker"),
        ("boot_id" = Option<Uuid>, Query, description = "Only if this run is the registered one"),
    ),
    responses(
        (status = 204, description = "It has left, or was not there"),
        (status = 400, description = "A parameter is unknown, stands twice or does not parse"),
        (status = 404, description = "`no_such_worker`: the name is none"),
    )
)]
pub(super) async fn leave(api: Arc<Api>, headers: &HeaderMap, id: &str, pairs: Vec<(String, String)>) -> Handled {
    let scope = api.check_worker(headers)?;
    let id = parse_id(id)?;
    let mut query = Query::new(pairs);
    let boot_id = query.parse::<BootId>("boot_id");
    query.finish()?;
    if let Some(known) = api.workers.find(&id).await? {
        check_authority(&scope, &known.authority)?;
    }
    to_the_end(async move {
        api.workers.leave(&id, boot_id).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

fn check_authority(scope: &Scope, authority: &AuthorityName) -> Result<(), Problem> {
    if scope.may_serve(authority) {
        return Ok(());
    }
    let detail = format!("this key may not serve authority {authority}");
    Err(Problem::new(StatusCode::FORBIDDEN, "wrong_authority", detail))
}

fn check_api_url(url: &str) -> Result<(), Problem> {
    let known = [Scheme::Http, Scheme::Https];
    let is_url = known.iter().any(|scheme| url.starts_with(&format!("{}://", scheme.as_str())));
    if is_url && url.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some()) {
        return Ok(());
    }
    let detail = "api_url must be an http or https URL at which the coordinator reaches the worker";
    Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_api_url", detail))
}

fn parse_id(id: &str) -> Result<WorkerId, Problem> {
    id.parse().map_err(|_| no_such_worker())
}

fn no_such_worker() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_worker", "there is no such worker")
}

impl From<WorkerInfo> for WorkerView {
    fn from(info: WorkerInfo) -> Self {
        let row = info.stored.row;
        Self {
            id: row.id,
            authority: row.authority,
            status: info.stored.status,
            version: row.version,
            api_url: row.api_url,
            weight: row.weight,
            boot_id: row.boot_id,
            circuits: row.circuits,
            connections: row.connections,
            seen_at: info.seen_at,
        }
    }
}
