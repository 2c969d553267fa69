//! Tells the target who asked, and how (RFC 7239, RFC 9110 §7.6.3).
//!
//! Hop-by-hop fields are gone before: pingora strips the standard ones and those that `Connection` names, and
//! rebuilds the two of a WebSocket upgrade.
//!
//! Invariant: what a client claims about its origin never reaches a target; what a trusted proxy says about it does, in the
//! edge's own words: one client, one scheme, one host, one port. `Host` (over HTTP/2 `:authority`) is
//! passed on unchanged, since applications compare it with `Origin`.

use entities::circuit::Backend;
use http::header::{FORWARDED, HOST, VIA};
use http::{HeaderName, HeaderValue, Version};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr as _, Result};
use pingora_proxy::Session;

use crate::access::remove_credentials;
use crate::circuit::Edits;
use crate::decide::RequestContext;
use crate::head::origin_form;
use crate::request_id::REQUEST_ID;

/// Fields that say where a request came from. They are the proxy's to set.
const CLAIMS: [&str; 5] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip"];

/// Fields of Backend.AI's manager begin with this.
const MANAGER_PREFIX: &str = "x-backendai-";

/// Edits `request`, the copy of the client's request that goes to the target.
pub(super) fn edit_request(session: &Session, request: &mut RequestHeader, context: &RequestContext) -> Result<()> {
    let original = session.req_header();
    for name in CLAIMS {
        request.remove_header(name);
    }
    request.remove_header(&FORWARDED);
    let told = context.told.as_deref();
    if told.is_none() {
        remove_claims_of_the_manager(request);
    }
    remove_own_credentials(request, context)?;
    let Some(circuit) = context.circuit() else { return Ok(()) };
    let (client, host, scheme) = (&context.client, context.host(), context.scheme());
    let port = context.forwarded_port();
    request.insert_header(REQUEST_ID, context.id().value())?;
    request.insert_header("X-Forwarded-For", client.ip_value.clone())?;
    request.insert_header("X-Forwarded-Proto", HeaderValue::from_static(scheme.as_str()))?;
    request.insert_header("X-Forwarded-Port", port.map_or_else(|| circuit.public_port.clone(), HeaderValue::from))?;
    if let Some(host) = host {
        request.insert_header("X-Forwarded-Host", host.clone())?;
    }
    if context.asked.is_none()
        && circuit.backend == Backend::H2
        && let Some(address) = session.server_addr()
    {
        // HTTP/1.0 needs no host and HTTP/2 does: the client named none but the address that it connected to.
        request.insert_header(HOST, address.to_string())?;
    }
    request.insert_header("Forwarded", context.forwarded())?;
    let via = match original.version {
        Version::HTTP_10 => "1.0 appproxy",
        Version::HTTP_2 => "2.0 appproxy",
        _ => "1.1 appproxy",
    };
    request.append_header(VIA, HeaderValue::from_static(via))?;
    if let Some(path) = origin_form(original.raw_path()) {
        request.set_raw_path(path)?;
    }
    if let Some(edits) = &circuit.edits {
        let Edits { remove, set } = &edits.request;
        for name in remove {
            request.remove_header(name);
        }
        for (name, value) in set {
            request.insert_header(name.clone(), value.clone())?;
        }
    }
    Ok(())
}

/// Takes out what only the manager in front of the edge may say.
fn remove_claims_of_the_manager(request: &mut RequestHeader) {
    let is_claim = |name: &&HeaderName| name.as_str().starts_with(MANAGER_PREFIX);
    let names: Vec<HeaderName> = request.headers.keys().filter(is_claim).cloned().collect();
    for name in names {
        request.remove_header(&name);
    }
}

/// Takes the edge's credentials out of a request, whichever circuit they are of: they are nothing to a target.
fn remove_own_credentials(request: &mut RequestHeader, context: &RequestContext) -> Result<()> {
    let mut edits = Vec::new();
    remove_credentials(&request.headers, context.forwards_token(), |name, values| edits.push((name, values)))
        .or_err(ErrorType::InvalidHTTPHeader, "a cookie")?;
    for (name, values) in edits {
        request.remove_header(&name);
        for value in values {
            request.append_header(name.clone(), value)?;
        }
    }
    Ok(())
}
