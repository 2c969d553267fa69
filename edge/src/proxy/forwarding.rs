//! Tells the target who asked, and how (RFC 7239, RFC 9110 §7.6.3).
//!
//! Hop-by-hop fields are gone before: pingora strips the standard ones and those that `Connection` names, and
//! rebuilds the two of a WebSocket upgrade.
//!
//! Invariant: what a client claims about its origin never reaches a target; what a trusted proxy says about it does, in the
//! edge's own words: one client, one scheme, one host, one port. `Host` (over HTTP/2 `:authority`) is
//! passed on unchanged, since applications compare it with `Origin`.

use std::fmt::Write as _;

use entities::authority::Scheme;
use entities::circuit::Backend;
use entities::host::split_host_header;
use http::header::{FORWARDED, HOST, VIA};
use http::{HeaderName, HeaderValue, Version};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr as _, Result};
use pingora_proxy::Session;

use super::context::{Forwarded, RequestContext};
use crate::access::remove_credentials;
use crate::circuit::Edits;
use crate::client::Client;
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
    let port = told.and_then(|told| told.port.or_else(|| Some(port_of(context, told, told.scheme?))));
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
    request.insert_header("Forwarded", forwarded(client, host, scheme))?;
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

/// The port that a client used who came by `scheme` to the trusted proxy that says so.
fn port_of(context: &RequestContext, told: &Forwarded, scheme: Scheme) -> u16 {
    let named = match &told.host {
        Some(host) => host.to_str().ok().and_then(split_host_header).and_then(|(_, port)| port),
        None => context.asked.as_ref().and_then(|asked| asked.port),
    };
    named.unwrap_or(scheme.default_port())
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

/// What an origin server is asked for in place of an absolute URI (RFC 9112 §3.2.1); nothing if `target` is none.
fn origin_form(target: &[u8]) -> Option<&[u8]> {
    let has_scheme = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|text| text.eq_ignore_ascii_case(scheme));
    let rest = [&b"http://"[..], b"https://"].into_iter().find(|scheme| has_scheme(scheme))?.len();
    let authority = target.get(rest..)?;
    match authority.iter().position(|byte| matches!(byte, b'/' | b'?')) {
        Some(at) if authority.get(at) == Some(&b'/') => authority.get(at..),
        // A query without a path is so rare that its bytes need not be kept.
        _ => Some(b"/"),
    }
}

/// One element of `Forwarded`. A host with a port is no token and has to be quoted.
fn forwarded(client: &Client, host: Option<&HeaderValue>, scheme: Scheme) -> String {
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut element = String::with_capacity(32 + client.node.len() + host.len());
    // Writing to a string does not fail, and `look_up` has let only hosts through that need no escape.
    let _ = match host {
        "" => write!(element, "for={};proto={}", client.node, scheme.as_str()),
        _ if host.contains([':', '[']) => {
            write!(element, "for={};host=\"{host}\";proto={}", client.node, scheme.as_str())
        }
        _ => write!(element, "for={};host={host};proto={}", client.node, scheme.as_str()),
    };
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(ip: &str, host: Option<&'static str>) -> String {
        let client = Client::new(ip.parse().expect("valid"));
        forwarded(&client, host.map(HeaderValue::from_static).as_ref(), Scheme::Https)
    }

    #[test]
    fn an_absolute_uri_becomes_its_path_byte_for_byte() {
        for (target, path) in [
            ("http://a.test/b/../c%2f//?q=%20", Some("/b/../c%2f//?q=%20")),
            ("HTTP://a.test", Some("/")),
            ("https://a.test:1/", Some("/")),
            ("/http://a.test/b", None),
            ("*", None),
        ] {
            assert_eq!(origin_form(target.as_bytes()), path.map(str::as_bytes), "{target}");
        }
    }

    #[test]
    fn hosts_with_ports_and_ipv6_nodes_are_quoted() {
        assert_eq!(element("10.0.0.1", Some("lab.test")), "for=10.0.0.1;host=lab.test;proto=https");
        assert_eq!(element("10.0.0.1", Some("lab.test:80")), "for=10.0.0.1;host=\"lab.test:80\";proto=https");
        assert_eq!(element("::1", Some("[::1]")), "for=\"[::1]\";host=\"[::1]\";proto=https");
        assert_eq!(element("10.0.0.1", None), "for=10.0.0.1;proto=https");
    }
}
