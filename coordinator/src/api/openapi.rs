//! `/v2/openapi.json`.
//!
//! Invariant: the document that is served is the committed one; a test compares the two.

use utoipa::OpenApi;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response};

/// The document, made from the types.
#[derive(OpenApi)]
#[openapi(
    info(title = "App Proxy coordinator", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    components(schemas(
        super::problem::Problem,
        crate::circuits::view::CircuitView,
        super::circuits::CircuitPage,
        super::workers::WorkerView,
        super::workers::WorkerList,
        super::authorities::AuthorityView,
        super::authorities::AuthorityList,
        super::health::StatusView,
    ))
)]
struct Document;

/// The document as JSON.
pub fn document() -> Result<String, serde_json::Error> {
    Document::openapi().to_pretty_json().map(|text| text + "\n")
}

pub(super) fn routes() -> BoxedFilter<(Response,)> {
    warp::path!("v2" / "openapi.json")
        .and(warp::get())
        .map(|| match document() {
            Ok(text) => warp::reply::with_header(text, "content-type", "application/json").into_response(),
            Err(_) => super::problem::Problem::internal().into_response(),
        })
        .boxed()
}
