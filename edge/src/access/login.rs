//! Sends people who may not come in yet to where they get a ticket.
//!
//! Invariant: only what a person opened is redirected; what a program or a page asks for is answered.

use entities::ids::CircuitKey;
use http::{HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Rules;
use super::same_site::is_navigation;
use crate::head::RequestView;
use crate::reply::wants_html;

/// What stays readable in a query (RFC 3986 §3.4).
const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// Where to send the client of `request`, if the circuit says so: its page with `circuit`, its `key`, and `redirect`, the path
/// that was asked for, in its query.
pub(crate) fn login_location(key: &CircuitKey, rules: &Rules, request: &impl RequestView) -> Option<HeaderValue> {
    let url = rules.login_url.as_deref().filter(|_| is_opened_by_a_person(request))?;
    let path = utf8_percent_encode(request.path(), QUERY);
    let query = request.query().map_or_else(String::new, |query| format!("%3F{}", utf8_percent_encode(query, QUERY)));
    let joint = if url.contains('?') { '&' } else { '?' };
    let circuit = utf8_percent_encode(key.as_str(), QUERY);
    HeaderValue::from_str(&format!("{url}{joint}circuit={circuit}&redirect={path}{query}")).ok()
}

fn is_opened_by_a_person(request: &impl RequestView) -> bool {
    let wants_page = wants_html(request.value(&header::ACCEPT));
    // Browsers that say what they ask for must ask for a page to show.
    let is_shown = !request.has(&HeaderName::from_static("sec-fetch-mode")) || is_navigation(request);
    *request.method() == Method::GET && wants_page && is_shown && !request.has(&header::UPGRADE)
}
