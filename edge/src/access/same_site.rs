//! Whose page makes a browser send a request: a pure core.
//!
//! Circuits on neighbouring subdomains, and on ports of one host, are the same *site* to a browser, which sends the cookie
//! of one with requests that pages of another make. So a cookie alone opens nothing.
//!
//! Invariant: a request of another page does not pass, whether it says so by `Origin` (RFC 6454 §7) or by the fields of
//! fetch metadata; what says neither comes from no current browser.

use entities::access::Origin;
use entities::authority::Scheme;
use http::Method;
use http::header::{HeaderName, ORIGIN, UPGRADE};

use crate::head::RequestView;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Whose requests pass.
pub(super) struct Page<'a> {
    /// By which the circuit is reached.
    pub(super) scheme: Scheme,
    /// Where, as the request's own `Host` says: a browser cannot be made to name another than it asks.
    pub(super) host: &'a str,
    /// Others that the circuit allows.
    pub(super) allowed: &'a [Origin],
}

/// Whether the circuit's own page made the browser send `request`, or one that the circuit allows, or the user did.
pub(super) fn is_from_own_page(request: &impl RequestView, page: &Page<'_>) -> bool {
    let mut origins = request.values(&ORIGIN);
    match (origins.next(), origins.next()) {
        (Some(origin), None) => std::str::from_utf8(origin).is_ok_and(|origin| page.is_own(origin)),
        (Some(_), Some(_)) => false,
        (None, _) => match only(request, &SITE) {
            None => true,
            Some(b"same-origin" | b"none") => true,
            Some(_) => is_navigation(request),
        },
    }
}

/// Whether the user follows a link to the circuit, which shows in the address bar what is opened.
pub(super) fn is_navigation(request: &impl RequestView) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.has(&UPGRADE)
        && only(request, &MODE) == Some(b"navigate")
        && only(request, &DEST) == Some(b"document")
}

/// The value of a field; of several the one that says nothing good.
fn only<'a>(request: &'a impl RequestView, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = request.values(name);
    let value = values.next()?;
    Some(if values.next().is_some() { b"" } else { value })
}

// === impl Page ===

impl Page<'_> {
    fn is_own(&self, origin: &str) -> bool {
        // Nearly always the origin is what the browser makes of scheme and host, letter for letter.
        let is_plain = origin
            .strip_prefix(self.scheme.as_str())
            .and_then(|rest| rest.strip_prefix("://"))
            .is_some_and(|host| host == self.host);
        if is_plain {
            return true;
        }
        let Ok(origin) = origin.parse::<Origin>() else { return false };
        Origin::new(self.scheme, self.host).is_some_and(|own| own == origin) || self.allowed.contains(&origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(method: &str, fields: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder().method(method).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (request, ()) = request.body(()).expect("valid").into_parts();
        let allowed = ["https://desk.example.org".parse().expect("valid")];
        is_from_own_page(&request, &Page { scheme: Scheme::Https, host: "lab.apps.test", allowed: &allowed })
    }

    #[test]
    fn the_own_page_passes_with_every_method() {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            for origin in ["https://lab.apps.test", "https://LAB.apps.test", "https://lab.apps.test:443"] {
                assert!(passes(method, &[("origin", origin)]), "{method} {origin}");
            }
            assert!(passes(method, &[("origin", "https://desk.example.org")]));
            assert!(passes(method, &[("sec-fetch-site", "same-origin")]));
            assert!(passes(method, &[("sec-fetch-site", "none")]));
            assert!(passes(method, &[]));
        }
    }

    #[test]
    fn other_pages_do_not_pass_however_near_they_are() {
        for origin in [
            "https://neighbour.apps.test",
            "https://apps.test",
            "https://x.lab.apps.test",
            "https://lab.apps.test.evil.test",
            "https://lab.apps.test:8443",
            "http://lab.apps.test",
            "null",
            "",
            "https://lab.apps.test/",
            "lab.apps.test",
        ] {
            for method in ["GET", "POST", "OPTIONS"] {
                assert!(!passes(method, &[("origin", origin)]), "{method} {origin}");
                // What a page cannot set does not make it better.
                assert!(!passes(method, &[("origin", origin), ("sec-fetch-site", "same-origin")]), "{origin}");
            }
        }
        assert!(!passes("GET", &[("origin", "https://lab.apps.test"), ("origin", "https://evil.test")]));
        for site in ["same-site", "cross-site", "", "anything"] {
            assert!(!passes("GET", &[("sec-fetch-site", site)]), "{site}");
            assert!(!passes("GET", &[("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")]), "{site}");
        }
    }

    #[test]
    fn a_link_may_be_followed_but_not_framed_posted_or_upgraded() {
        let navigation =
            [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert!(passes("GET", &navigation));
        assert!(!passes("POST", &navigation));
        assert!(!passes("GET", &[navigation[0], navigation[1], ("sec-fetch-dest", "iframe")]));
        assert!(!passes("GET", &[navigation[0], navigation[1], navigation[2], ("upgrade", "websocket")]));
        assert!(!passes("GET", &[navigation[0], navigation[1], navigation[2], ("sec-fetch-dest", "document")]));
    }
}
