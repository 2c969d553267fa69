//! `/v2/circuits/{circuit}/tickets` and `/tokens`: what opens private circuits.
//!
//! Invariant: an answer with a ticket or a token is stored by no cache, and neither stands in a log.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::circuits::{circuit, parse_name};
use super::openapi::{AskForTicket, AskForToken};
use super::problem::Problem;
use super::{Api, Handled, answer, body, to_the_end, with_api};
use crate::circuits::passes::{TicketRequest, TicketView, TokenRequest, TokenView};
use crate::circuits::view::CircuitView;

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    let tickets = warp::path!("v2" / "circuits" / String / "tickets");
    let tokens = warp::path!("v2" / "circuits" / String / "tokens");
    let ticket = tickets.and(warp::post()).and(with_api(api)).and(warp::body::stream()).then(
        |name: String, api: Arc<Api>, headers: HeaderMap, body| async move {
            answer(ticket(&api, &headers, &name, body).await)
        },
    );
    let token = tokens.and(warp::post()).and(with_api(api)).and(warp::body::stream()).then(
        |name: String, api: Arc<Api>, headers: HeaderMap, body| async move {
            answer(token(&api, &headers, &name, body).await)
        },
    );
    let revoke = tokens.and(warp::delete()).and(with_api(api)).then(
        |name: String, api: Arc<Api>, headers: HeaderMap| async move { answer(revoke(api, &headers, &name).await) },
    );
    ticket.or(token).unify().or(revoke).unify().boxed()
}

/// Makes a link that opens a private circuit in a browser.
///
/// It works for a minute and only for this circuit. Who follows it gets a cookie of the circuit's own host for twelve hours
/// and is led on to `redirect`.
#[utoipa::path(
    post,
    path = "/v2/circuits/{circuit}/tickets",
    tag = "access",
    params(("circuit" = String, Path, description = "Key or id")),
    request_body = AskForTicket,
    responses(
        (status = 201, description = "The link", body = TicketView),
        (status = 400, description = "`invalid_request` (each fault is in `errors`), `body_too_large` or \
            `incomplete_body`"),
        (status = 403, description = "`other_user`: the circuit belongs to another user than the one named"),
        (status = 404, description = "`no_such_circuit`"),
        (status = 409, description = "`not_http`: byte streams are opened by addresses; `no_way_in`: the authority does \
            not take such frontends any more"),
    )
)]
pub(super) async fn ticket(
    api: &Api,
    headers: &HeaderMap,
    name: &str,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Handled {
    api.check_manager(headers)?;
    let name = parse_name(name)?;
    let request = TicketRequest::read(&read_optional(stream).await?)?;
    Ok(unstored(&api.circuits.ticket(&name, request).await?))
}

/// Makes a token that opens a private circuit for programs.
#[utoipa::path(
    post,
    path = "/v2/circuits/{circuit}/tokens",
    tag = "access",
    params(("circuit" = String, Path, description = "Key or id")),
    request_body = AskForToken,
    responses(
        (status = 201, description = "The token", body = TokenView),
        (status = 400, description = "`invalid_request` (each fault is in `errors`), `body_too_large` or \
            `incomplete_body`"),
        (status = 403, description = "`other_user`: the circuit belongs to another user than the one named"),
        (status = 404, description = "`no_such_circuit`"),
        (status = 409, description = "`not_http`: byte streams are opened by addresses; `no_way_in`: the authority does \
            not take such frontends any more"),
    )
)]
pub(super) async fn token(
    api: &Api,
    headers: &HeaderMap,
    name: &str,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Handled {
    api.check_manager(headers)?;
    let name = parse_name(name)?;
    let request = TokenRequest::read(&read_optional(stream).await?)?;
    Ok(unstored(&api.circuits.token(&name, request).await?))
}

/// Ends every ticket, token and cookie of a circuit.
///
/// Open connections stay.
#[utoipa::path(
    delete,
    path = "/v2/circuits/{circuit}/tokens",
    tag = "access",
    params(("circuit" = String, Path, description = "Key or id")),
    responses(
        (status = 200, description = "Nothing that was made before opens the circuit any more, at any live worker",
            body = CircuitView),
        (status = 202, description = "Stored; `applied.pending` names the workers that do not know yet",
            body = CircuitView),
        (status = 404, description = "`no_such_circuit`"),
    )
)]
pub(super) async fn revoke(api: Arc<Api>, headers: &HeaderMap, name: &str) -> Handled {
    api.check_manager(headers)?;
    let name = parse_name(name)?;
    to_the_end(async move {
        let (view, is_served) = api.circuits.revoke(&name).await?;
        Ok(circuit(if is_served { StatusCode::OK } else { StatusCode::ACCEPTED }, &view))
    })
    .await
}

/// A body whose fields are all optional may be left out.
async fn read_optional(stream: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Result<Value, Problem> {
    let body = body::read(stream).await?;
    if body.is_empty() { Ok(json!({})) } else { body::parse_value(&body) }
}

fn unstored(view: &impl Serialize) -> Response {
    let mut response = super::json(StatusCode::CREATED, view);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
