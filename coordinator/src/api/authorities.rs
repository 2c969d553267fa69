//! `/v2/authorities`: addresses and their slots.
//!
//! Invariant: used, resting and free ports add up to the range, ports outside of it aside.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::{Api, Handled, answer, json, with_api};
use crate::slots::RestRules;

/// Every authority.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuthorityList {
    /// In the order of their names.
    items: Vec<AuthorityView>,
}

/// One authority.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuthorityView {
    /// Its name.
    name: String,
    /// Its wildcard domain, if it takes subdomain circuits.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// Subdomains that circuits have.
    subdomains_used: u64,
    /// Its ports, if it takes port circuits.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<PortsView>,
}

/// The ports of an authority.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PortsView {
    /// The host that clients use.
    host: String,
    /// `FIRST-LAST`.
    range: String,
    /// Ports that circuits have.
    used: u64,
    /// Ports that were released a short while ago or would not bind.
    resting: u64,
    /// Ports that can be given now.
    free: u64,
}

pub(super) fn routes(api: &Arc<Api>) -> BoxedFilter<(Response,)> {
    warp::path!("v2" / "authorities")
        .and(warp::get())
        .and(with_api(api))
        .then(|api: Arc<Api>, headers: HeaderMap| async move { answer(list(&api, &headers).await) })
        .boxed()
}

/// Lists all authorities with their slots.
#[utoipa::path(
    get,
    path = "/v2/authorities",
    tag = "authorities",
    responses((status = 200, description = "In the order of their names", body = AuthorityList))
)]
pub(super) async fn list(api: &Api, headers: &HeaderMap) -> Handled {
    api.check_read(headers)?;
    let counts = api.store.slot_counts(&RestRules::from(&api.timing), api.clock.now_ms()).await?;
    let view = |authority: entities::authority::Authority| {
        let count = counts.get(authority.name.as_str()).copied().unwrap_or_default();
        let ports = authority.ports.map(|part| PortsView {
            host: part.host.as_str().to_owned(),
            range: part.ports.to_string(),
            used: count.ports_used,
            resting: count.ports_resting,
            free: u64::from(part.ports.len()).saturating_sub(count.ports_used + count.ports_resting),
        });
        AuthorityView {
            name: authority.name.to_string(),
            domain: authority.subdomains.map(|part| part.domain.to_string()),
            subdomains_used: count.subdomains_used,
            ports,
        }
    };
    let items = api.store.authorities().await?.into_iter().map(view).collect();
    Ok(json(StatusCode::OK, &AuthorityList { items }))
}
