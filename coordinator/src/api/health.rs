//! `/health*`, `/status`, `/metrics`.
//!
//! Invariant: health needs no key and tells nothing but yes or no; the rest needs a key that may look.

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

#[derive(Serialize)]
struct HealthView {
    status: &'static str,
    store: bool,
    registry: bool,
}

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let livez = warp::path!("health" / "livez").and(warp::get()).map(|| StatusCode::OK.into_response());
    let health = warp::path!("health").or(warp::path!("health" / "readyz")).unify();
    let readyz = health
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
    livez.or(readyz).unify().or(status).unify().or(metrics).unify().boxed()
}

async fn ready(api: &Api) -> Response {
    let store = api.store.ping().await.is_ok();
    let registry = api.reconcile.is_complete();
    if store && registry {
        json(StatusCode::OK, &HealthView { status: "ready", store, registry })
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, &HealthView { status: "not ready", store, registry })
    }
}

fn status(api: &Api, headers: &HeaderMap) -> Handled {
    api.check_read(headers)?;
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

fn metrics(api: &Api, headers: &HeaderMap) -> Handled {
    api.check_read(headers)?;
    let text = api.metrics.render().map_err(|error| {
        tracing::error!(%error, "metrics could not be rendered");
        Problem::internal()
    })?;
    let mut response = text.into_response();
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    Ok(response)
}
