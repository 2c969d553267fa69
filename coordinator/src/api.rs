//! The REST API: extract → use case → reply, and nothing else.
//!
//! Invariant: no handler touches the store or the registry, and no use case sees warp. Every answer that is not a
//! success is a problem (RFC 9457) with a code that programs can match.

mod access;
mod audit;
mod auth;
mod authorities;
mod body;
mod call;
mod catalogue;
mod circuits;
mod front;
mod health;
mod openapi;
mod problem;
mod query;
mod sessions;
mod workers;

use std::convert::Infallible;
use std::sync::Arc;

use entities::clock::SharedClock;
use entities::ids::InstallationId;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tracing::{Instrument, Span};
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use crate::circuits::Circuits;
use crate::config::Timing;
use crate::config::api::ApiConfig;
use crate::keys::ApiKeys;
use crate::metrics::Metrics;
use crate::reconcile::Reconcile;
use crate::store::Store;
use crate::workers::Workers;
use problem::Problem;

pub(crate) use front::Front;
pub use openapi::document as openapi_document;

/// Everything that handlers use.
pub(crate) struct Api {
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) circuits: Circuits,
    pub(crate) workers: Workers,
    pub(crate) reconcile: Reconcile,
    pub(crate) store: Store,
    pub(crate) clock: SharedClock,
    pub(crate) timing: Timing,
    pub(crate) config: ApiConfig,
    pub(crate) metrics: Metrics,
    pub(crate) installation_id: InstallationId,
}

type Handled = Result<Response, Problem>;

/// All routes.
fn routes(api: Arc<Api>) -> BoxedFilter<(Response,)> {
    let resources = circuits::routes(&api)
        .or(access::routes(&api))
        .unify()
        .or(sessions::routes(&api))
        .unify()
        .or(workers::routes(&api))
        .unify()
        .or(authorities::routes(&api))
        .unify()
        .or(health::routes(&api))
        .unify()
        .or(openapi::routes())
        .unify()
        .boxed();
    resources.recover(recover).unify().boxed()
}

/// What no route took.
async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this resource does not take that method")
    } else {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such resource; see /v2/openapi.json")
    };
    Ok(problem.into_response())
}

/// Gives a handler the API and the request's headers.
fn with_api(api: &Arc<Api>) -> impl Filter<Extract = (Arc<Api>, HeaderMap), Error = Infallible> + Clone + use<> {
    let api = Arc::clone(api);
    warp::any().map(move || Arc::clone(&api)).and(warp::header::headers_cloned())
}

/// The one way from a handler's result to an answer.
fn answer(handled: Handled) -> Response {
    handled.unwrap_or_else(Reply::into_response)
}

/// Runs a change to its end even if the client goes away halfway: what was begun is then whole, not for reconcile, and
/// it is in the audit log.
async fn to_the_end(work: impl Future<Output = Handled> + Send + 'static) -> Handled {
    let call = call::current();
    let audited = {
        let call = call.clone();
        async move {
            let handled = work.await;
            audit::note(call.as_deref(), &handled);
            handled
        }
    };
    match tokio::spawn(call::carry(audited).instrument(Span::current())).await {
        Ok(handled) => handled,
        Err(error) => {
            tracing::error!(%error, "a request ended in a panic");
            let handled = Err(Problem::internal());
            audit::note(call.as_deref(), &handled);
            handled
        }
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}
