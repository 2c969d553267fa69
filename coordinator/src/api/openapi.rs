//! `/v2/openapi.json`.
//!
//! Invariant: the document that is served is the committed one; a test compares the two. Every route of this folder
//! is in it.

mod bodies;

use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, Ref, RefOr, Response as Described};
use utoipa::{Modify, OpenApi};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

use super::problem::{FaultView, Problem};
use super::{access, authorities, circuits, health, sessions, workers};

pub(super) use bodies::{AskForTicket, AskForToken, ChangeCircuit, OpenCircuit, RegisterWorker, WorkerHeartbeat};

/// The document, made from the types and the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "App Proxy coordinator",
        description = "Opens, changes and closes circuits: ways in to the services of a cluster. Every answer that is \
            not a success is a problem (RFC 9457) whose `code` programs can match, and every answer has an `X-Request-Id`: \
            the caller's own, or a new one. Fields whose rules are not \
            enforced yet are refused with `not_supported`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "circuits", description = "One circuit is one routing rule: a way in, its targets, and the rules between"),
        (name = "access", description = "What opens private circuits: tickets for browsers, tokens for programs"),
        (name = "sessions", description = "What ends with a session"),
        (name = "workers", description = "Edges come, say that they live, and go"),
        (name = "authorities", description = "Addresses that clients use, and their slots"),
        (name = "health", description = "How the coordinator is, and this document"),
    ),
    security(("api_key" = []), ("backendai_token" = [])),
    paths(
        circuits::open,
        circuits::list,
        circuits::show,
        circuits::change,
        circuits::close,
        access::ticket,
        access::token,
        access::revoke,
        sessions::close_all,
        workers::list,
        workers::show,
        workers::register,
        workers::heartbeat,
        workers::leave,
        authorities::list,
        health::live,
        health::health,
        health::ready,
        health::status,
        health::metrics,
        serve,
    ),
    components(schemas(Problem, FaultView)),
    modifiers(&Everywhere)
)]
pub(super) struct Document;

/// What holds for every route.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Components::default);
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key")).build();
        components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
        let token =
            ApiKeyValue::with_description("X-BackendAI-Token", "The same key, as clients of Backend.AI give it");
        components.add_security_scheme("backendai_token", SecurityScheme::ApiKey(ApiKey::Header(token)));
        for item in openapi.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            for operation in operations.into_iter().flatten() {
                let responses = &mut operation.responses.responses;
                if operation.security.is_none() {
                    responses
                        .insert("401".to_owned(), RefOr::T(Described::new("`unauthorized`: no key, or a wrong one")));
                    let forbidden = "`wrong_scope`, `wrong_authority` or `no_worker_key`: the key may not do this; \
                        `tls_required`: plain HTTP is refused";
                    responses.insert("403".to_owned(), RefOr::T(Described::new(forbidden)));
                    let busy = "`overloaded` or `store_unavailable`; see `Retry-After`";
                    responses.entry("503".to_owned()).or_insert_with(|| RefOr::T(Described::new(busy)));
                    let slow = "`request_timeout`: the answer took too long; a change that was begun goes on";
                    responses.insert("504".to_owned(), RefOr::T(Described::new(slow)));
                }
                if operation.request_body.is_some() {
                    let late = "`body_timeout`: the body did not come in time";
                    responses.insert("408".to_owned(), RefOr::T(Described::new(late)));
                }
                for (status, response) in responses.iter_mut() {
                    let RefOr::T(response) = response else { continue };
                    let is_problem = status.starts_with(['4', '5']) && response.content.is_empty();
                    if is_problem {
                        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
                        response.content.insert("application/problem+json".to_owned(), RefOr::T(content));
                    }
                }
            }
        }
    }
}

/// The document as JSON.
pub fn document() -> Result<String, serde_json::Error> {
    Document::openapi().to_pretty_json().map(|text| text + "\n")
}

pub(super) fn routes() -> BoxedFilter<(Response,)> {
    warp::path!("v2" / "openapi.json").and(warp::get()).then(serve).boxed()
}

/// This document.
#[utoipa::path(
    get,
    path = "/v2/openapi.json",
    tag = "health",
    security(()),
    responses((status = 200, description = "The document", body = Object))
)]
async fn serve() -> Response {
    match document() {
        Ok(text) => warp::reply::with_header(text, "content-type", "application/json").into_response(),
        Err(_) => Problem::internal().into_response(),
    }
}
