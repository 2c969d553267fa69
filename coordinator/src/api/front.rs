//! What goes around each call: its id, its place among the others, its time, and what is said of it afterwards.
//!
//! Invariant: every answer has an `X-Request-Id` and is counted, whoever made it. Health is answered however many calls
//! there are, so that a busy coordinator is not taken for a dead one.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::Body;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::Instrument;
use utoipa::OpenApi;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use super::Api;
use super::call::{self, Call};
use super::catalogue::Catalogue;
use super::openapi::Document;
use super::problem::{Problem, ProblemCode};
use crate::addresses::Origin;
use crate::config::api::ApiConfig;
use crate::keys::ApiKey;
use crate::metrics::Metrics;
use crate::refusals::{Refusal, Refusals};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where probes ask.
const HEALTH: &str = "/health";

/// Answers all calls.
pub(crate) struct Front {
    routes: BoxedFilter<(Response,)>,
    catalogue: Catalogue,
    config: ApiConfig,
    places: Arc<Semaphore>,
    metrics: Metrics,
    refusals: Refusals,
}

// === impl Front ===

impl Front {
    pub(crate) fn new(api: Arc<Api>) -> Arc<Self> {
        let (config, metrics) = (api.config.clone(), api.metrics.clone());
        Arc::new(Self {
            routes: super::routes(api),
            catalogue: Catalogue::new(&Document::openapi()),
            places: Arc::new(Semaphore::new(config.limits.max_requests.min(Semaphore::MAX_PERMITS))),
            config,
            refusals: Refusals::new(metrics.clone()),
            metrics,
        })
    }

    pub(crate) fn config(&self) -> &ApiConfig {
        &self.config
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Answers a request that came over a connection of `peer`.
    pub(crate) async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Response
    where
        B: Body + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let (place, early) = match self.take_place(path) {
            Ok(place) => (place, None),
            Err(Overloaded) => (None, Some(overloaded())),
        };
        let route = self.catalogue.find(path).map_or_else(|| "none".into(), |route| Arc::clone(&route.template));
        let origin = Origin::of(peer, &head.headers, &self.config.trusted_proxies);
        let body_deadline = Instant::now() + self.config.limits.body_timeout;
        let early =
            if self.config.require_tls && !origin.is_secure && !is_health(path) { Some(tls_required()) } else { early };
        let call = Call::new(&head, route, origin, body_deadline, place);
        let span = tracing::info_span!("call", request_id = %call.id);
        async {
            let answered = match early {
                Some(problem) => problem.into_response(),
                None => call::run(Arc::clone(&call), self.dispatch(Request::from_parts(head, body))).await,
            };
            self.finish(&call, answered)
        }
        .instrument(span)
        .await
    }

    /// A place among the calls that are answered at the same time; health needs none.
    fn take_place(&self, path: &str) -> Result<Option<OwnedSemaphorePermit>, Overloaded> {
        if is_health(path) {
            return Ok(None);
        }
        Arc::clone(&self.places).try_acquire_owned().map(Some).map_err(|_| Overloaded)
    }

    async fn dispatch<B>(&self, request: Request<B>) -> Response
    where
        B: Body + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let service = TowerToHyperService::new(warp::service(self.routes.clone()));
        match tokio::time::timeout(self.config.limits.request_timeout, service.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let detail = "the answer took too long; a change that was begun goes on";
                Problem::new(StatusCode::GATEWAY_TIMEOUT, Refusal::RequestTimeout.as_str(), detail).into_response()
            }
        }
    }

    fn finish(&self, call: &Call, mut response: Response) -> Response {
        let status = response.status();
        let class = match status.as_u16() {
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.metrics.requests_total.with_label_values(&[class]).inc();
        let code = response.extensions().get::<ProblemCode>().map(|code| code.0);
        if let Some(refusal) = code.and_then(Refusal::of_code) {
            let key = call.key().map(ApiKey::label);
            let detail = format_args!("{} {}", call.method, call.route);
            self.refusals.note(refusal, call.origin.client, key.as_deref(), detail);
        }
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(call.id.as_str()) {
            headers.insert(REQUEST_ID, id);
        }
        // RFC 9110 §15.5.6: who is told that a method is not taken is told which ones are.
        if status == StatusCode::METHOD_NOT_ALLOWED
            && let Some(route) = self.catalogue.find(&call.path)
            && let Ok(methods) = HeaderValue::try_from(route.methods.as_str())
        {
            headers.insert(header::ALLOW, methods);
        }
        response
    }
}

/// All places are taken.
struct Overloaded;

fn overloaded() -> Problem {
    let detail = "too many requests at the same time";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, Refusal::Overloaded.as_str(), detail).retry_after(1)
}

/// Nothing is read of such a request, its key least of all: it has travelled in the open, and that must be noticed.
fn tls_required() -> Problem {
    let detail = "this API takes requests over TLS only";
    Problem::new(StatusCode::FORBIDDEN, Refusal::TlsRequired.as_str(), detail)
}

fn is_health(path: &str) -> bool {
    path == HEALTH || path.strip_prefix(HEALTH).is_some_and(|rest| rest.starts_with('/'))
}
