//! Finds credentials of the edge in a request, and takes them out before it is forwarded.
//!
//! Invariant: whatever a request carries of this proxy's credentials, valid or not and of whichever circuit, is gone when a
//! target reads it: the application behind one circuit must not learn what opens another.

use bytes::Bytes;
use entities::authority::Scheme;
use entities::ids::CircuitId;
use entities::token::is_ours;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, InvalidHeaderValue, REFERER};
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::ticket::RESERVED_PATH;
use crate::head::RequestView;

/// What the names of the edge's own cookies begin with. Over TLS a cookie has the first prefix, which keeps other hosts and
/// pages without TLS from setting one like it (RFC 6265bis §4.1.3.2).
const COOKIE_PREFIXES: [&[u8]; 2] = [b"__Host-appproxy-", b"appproxy-"];

/// The rest of the name of a cookie that opens a circuit, in front of the circuit's id: ports of one host share their
/// cookies, so each circuit needs a name of its own.
const PASS: &[u8] = b"pass-";

/// For API clients that need `Authorization` for the application itself.
const TOKEN_FIELD: HeaderName = HeaderName::from_static("x-appproxy-token");

/// Cookies of one name that are looked at. A page on a neighbouring host may set some of the same name, which come first
/// or last as it likes.
const MAX_COOKIES_OF_ONE_NAME: usize = 4;

/// The name of the cookie that opens a circuit.
pub(super) fn cookie_name(circuit: CircuitId, scheme: Scheme) -> String {
    let mut digits = Uuid::encode_buffer();
    let digits = circuit.0.as_simple().encode_lower(&mut digits);
    let prefix = if scheme == Scheme::Https { "__Host-" } else { "" };
    format!("{prefix}appproxy-pass-{digits}")
}

/// The values of the cookies that may open a circuit.
pub(super) fn cookies_named(
    request: &impl RequestView,
    circuit: CircuitId,
    scheme: Scheme,
) -> impl Iterator<Item = &[u8]> {
    let [over_tls, plain] = COOKIE_PREFIXES;
    let prefix = if scheme == Scheme::Https { over_tls } else { plain };
    let mut digits = Uuid::encode_buffer();
    circuit.0.as_simple().encode_lower(&mut digits);
    pairs(request.values(&COOKIE))
        .filter_map(move |pair| {
            let rest = pair.strip_prefix(prefix)?.strip_prefix(PASS)?;
            let (id, value) = rest.split_at_checked(uuid::fmt::Simple::LENGTH)?;
            let is_this = digits.starts_with(id);
            value.strip_prefix(b"=").filter(|_| is_this)
        })
        .take(MAX_COOKIES_OF_ONE_NAME)
}

fn pairs<'a>(fields: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    fields.flat_map(|field| field.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii)
}

/// Whether a cookie, as `name=value`, is the edge's own, of whichever circuit and for whatever.
pub(crate) fn is_own_cookie(pair: &[u8]) -> bool {
    let pair = pair.trim_ascii_start();
    COOKIE_PREFIXES.iter().any(|prefix| {
        // Browsers compare prefixes like `__Host-` without case; nothing is lost by doing so with all of the name.
        pair.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    })
}

/// What may be a bearer token of ours: in `Authorization: Bearer` (RFC 6750 §2.1), else in a field of our own.
pub(super) fn bearer_tokens(request: &impl RequestView) -> impl Iterator<Item = &[u8]> {
    let authorization = request.value(&AUTHORIZATION).and_then(own_bearer);
    let own = request.value(&TOKEN_FIELD).map(<[u8]>::trim_ascii);
    authorization.into_iter().chain(own)
}

/// Whether a field `Authorization` holds a token of ours.
pub(crate) fn is_own_bearer(field: &[u8]) -> bool {
    own_bearer(field).is_some()
}

/// Whether a `Referer` may hold a ticket. A page that was reached by a ticket says no more than its origin, but somebody may
/// have copied the address.
pub(crate) fn is_ticket_referer(field: &[u8]) -> bool {
    field.windows(RESERVED_PATH.len()).any(|part| part == RESERVED_PATH.as_bytes())
}

/// The token in a field `Authorization`, if it is one of ours. Any other belongs to the application.
fn own_bearer(field: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, token) = field.trim_ascii_start().split_at_checked(SCHEME.len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && is_ours(token)).then_some(token)
}

/// Takes all of the edge's credentials out of the head of a request, but for the bearer token where `forwards_token`.
///
/// # Errors
/// [`InvalidHeaderValue`] never: what is left of a field is as valid as the whole.
pub(crate) fn remove_credentials(
    headers: &HeaderMap,
    forwards_token: bool,
    mut edit: impl FnMut(HeaderName, Vec<HeaderValue>),
) -> Result<(), InvalidHeaderValue> {
    if headers.contains_key(TOKEN_FIELD) {
        edit(TOKEN_FIELD, Vec::new());
    }
    let is_token = |field: &HeaderValue| is_own_bearer(field.as_bytes());
    if !forwards_token && headers.get_all(AUTHORIZATION).iter().any(is_token) {
        let kept = headers.get_all(AUTHORIZATION).iter().filter(|field| !is_token(field)).cloned();
        edit(AUTHORIZATION, kept.collect());
    }
    if headers.get_all(REFERER).iter().any(|field| is_ticket_referer(field.as_bytes())) {
        edit(REFERER, Vec::new());
    }
    if pairs(headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes)).any(is_own_cookie) {
        let mut kept = Vec::new();
        for field in headers.get_all(COOKIE) {
            let rest: Vec<&[u8]> =
                field.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_own_cookie(pair)).collect();
            let rest = rest.join(&b';').trim_ascii().to_vec();
            if !rest.is_empty() {
                kept.push(HeaderValue::from_maybe_shared(Bytes::from(rest))?);
            }
        }
        edit(COOKIE, kept);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use entities::ids::Generation;
    use entities::token::{Claims, SigningKey, TokenKind};

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    fn request(fields: &[(&'static str, &str)]) -> http::request::Parts {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.headers = headers(fields);
        parts
    }

    fn token() -> String {
        let claims = Claims::new(TokenKind::Bearer, CircuitId::random(), Generation(1), 0);
        SigningKey::from_seed([1; 32]).sign(TokenKind::Bearer, &claims).expect("signs")
    }

    fn stripped(fields: &[(&'static str, &str)], forwards_token: bool) -> Vec<(String, String)> {
        let before = headers(fields);
        let mut after = before.clone();
        remove_credentials(&before, forwards_token, |name, values| {
            after.remove(&name);
            values.into_iter().for_each(|value| {
                after.append(&name, value);
            });
        })
        .expect("valid");
        after.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect()
    }

    #[test]
    fn a_cookie_is_found_by_the_name_of_its_circuit_wherever_it_stands() {
        let (one, two) = (CircuitId::random(), CircuitId::random());
        let name = cookie_name(one, Scheme::Http);
        let request = request(&[
            ("cookie", &format!("a=b; {name}=first ;c=d")),
            ("cookie", &format!("{name}x=no;{name}=second; x{name}=no")),
        ]);
        let found: Vec<&[u8]> = cookies_named(&request, one, Scheme::Http).collect();
        assert_eq!(found, [b"first".as_slice(), b"second"]);
        assert_eq!(cookies_named(&request, two, Scheme::Http).count(), 0);
        assert_eq!(cookies_named(&request, one, Scheme::Https).count(), 0);
        assert!(cookie_name(one, Scheme::Https).starts_with("__Host-appproxy-pass-"));
    }

    #[test]
    fn of_many_cookies_of_one_name_a_few_are_looked_at() {
        let one = CircuitId::random();
        let many = vec![format!("{}=x", cookie_name(one, Scheme::Https)); 50].join("; ");
        assert_eq!(cookies_named(&request(&[("cookie", &many)]), one, Scheme::Https).count(), MAX_COOKIES_OF_ONE_NAME);
    }

    #[test]
    fn tokens_of_the_application_are_not_ours() {
        let token = token();
        for (fields, count) in [
            (vec![("authorization", format!("Bearer {token}"))], 1),
            (vec![("authorization", format!("bearer  {token} "))], 1),
            (vec![("authorization", "Bearer sk-123".to_owned()), ("x-appproxy-token", token.clone())], 1),
            (vec![("authorization", format!("token {token}"))], 0),
            (vec![("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln".to_owned())], 0),
            (vec![], 0),
        ] {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(bearer_tokens(&request(&fields)).count(), count, "{fields:?}");
        }
    }

    #[test]
    fn everything_of_ours_goes_and_everything_else_stays() {
        let token = token();
        let bearer = format!("Bearer {token}");
        let fields = [
            ("authorization", bearer.as_str()),
            ("x-appproxy-token", token.as_str()),
            ("referer", "https://a.apps.test/.appproxy/ticket?t=x"),
            ("cookie", "appproxy-pass-00=a; session=1; __Host-appproxy-pass-01=b; appproxy-to=9"),
            ("cookie", "__HOST-APPPROXY-pass-02=c"),
            ("x-app", "1"),
        ];
        let kept = |kept: &[(&str, &str)]| -> Vec<(String, String)> {
            kept.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut expected = kept(&[("cookie", "session=1"), ("x-app", "1")]);
        let mut found = stripped(&fields, false);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert!(stripped(&fields, true).contains(&("authorization".to_owned(), bearer.clone())));
        let innocent =
            [("authorization", "Bearer sk-1"), ("cookie", "my-appproxy-x=1; a=b"), ("referer", "https://a.test/")];
        let mut found = stripped(&innocent, false);
        let mut expected = kept(&innocent);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }
}
