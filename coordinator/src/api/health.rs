//! `/health*`, `/status`, `/metrics`.
//!
//! Invariant: health needs no key and tells nothing but yes or no; the rest needs a key that may look, or an address in
//! `metrics_allowed`.

use std::sync::Arc;

use entities::worker::WorkerStatus;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use super::problem::Problem;
use super::{Api, Handled, answer, json, with_api};

/// How the coordinator is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusView {
    /// The program's version.
    version: &'static str,
    /// Whose store and registry these are.
    installation_id: Uuid,
    /// Whether the registry holds every circuit of the store.
    is_complete: bool,
    /// Workers that answer and are up to date.
    workers_alive: usize,
    /// Workers that are behind or lost.
    workers_other: usize,
}

/// Whether the coordinator can work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthView {
    /// `ready` or `not ready`.
    status: &'static str,
    /// Whether the database answers.
    store: bool,
    /// Whether the registry has been filled.
    registry: bool,
}

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let livez = warp::path!("health" / "livez").and(warp::get()).then(live);
    let health = warp::path!("health")
        .and(warp::get())
        .and(with_api(api))
        .then(|api: Arc<Api>, _headers: HeaderMap| async move { health(&api).await });
    let readyz = warp::path!("health" / "readyz")
        .and(warp::get())
        .and(with_api(api))
        .then(|api: Arc<Api>, _headers: HeaderMap| async move { ready(&api).await });
    let status = warp::path!("status")
        .and(warp::get())
        .and(with_api(api))
        .then(|api: Arc<Api>, headers: HeaderMap| async move { answer(status(&api, &headers)) });
    let metrics = warp::path!("metrics")
        .and(warp::get())
        .and(with_api(api))
        .then(|api: Arc<Api>, headers: HeaderMap| async move { answer(metrics(&api, &headers)) });
    livez.or(health).unify().or(readyz).unify().or(status).unify().or(metrics).unify().boxed()
}

/// Says that the process runs.
#[utoipa::path(
    get,
    path = "/health/livez",
    tag = "health",
    security(()),
    responses((status = 200, description = "It runs"))
)]
pub(super) async fn live() -> Response {
    StatusCode::OK.into_response()
}

/// The same as `/health/readyz`.
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    security(()),
    responses(
        (status = 200, description = "It can work", body = HealthView),
        (status = 503, description = "It cannot work yet or any more", body = HealthView),
    )
)]
pub(super) async fn health(api: &Api) -> Response {
    ready(api).await
}

/// Says whether the coordinator can work.
#[utoipa::path(
    get,
    path = "/health/readyz",
    tag = "health",
    security(()),
    responses(
        (status = 200, description = "It can work", body = HealthView),
        (status = 503, description = "It cannot work yet or any more", body = HealthView),
    )
)]
pub(super) async fn ready(api: &Api) -> Response {
    let store = api.store.ping().await.is_ok();
    let registry = api.reconcile.is_complete();
    if store && registry {
        json(StatusCode::OK, &HealthView { status: "ready", store, registry })
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, &HealthView { status: "not ready", store, registry })
    }
}

/// Says how the coordinator is.
///
/// From the addresses in `metrics_allowed` without a key.
#[utoipa::path(
    get,
    path = "/status",
    tag = "health",
    responses((status = 200, description = "How it is", body = StatusView))
)]
pub(super) fn status(api: &Api, headers: &HeaderMap) -> Handled {
    api.check_metrics(headers)?;
    let statuses = api.circuits.worker_statuses();
    let alive = statuses.iter().filter(|status| **status == WorkerStatus::Alive).count();
    let view = StatusView {
        version: env!("CARGO_PKG_VERSION"),
        installation_id: api.installation_id.0,
        is_complete: api.reconcile.is_complete(),
        workers_alive: alive,
        workers_other: statuses.len() - alive,
    };
    Ok(json(StatusCode::OK, &view))
}

/// Everything that is counted, in the text format of Prometheus.
///
/// From the addresses in `metrics_allowed` without a key.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"))
)]
pub(super) fn metrics(api: &Api, headers: &HeaderMap) -> Handled {
    api.check_metrics(headers)?;
    let text = api.metrics.render().map_err(|error| {
        tracing::error!(%error, "metrics could not be rendered");
        Problem::internal()
    })?;
    let mut response = text.into_response();
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    Ok(response)
}
