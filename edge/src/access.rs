//! Who may use a circuit.
//!
//! Public circuits are anybody's from the addresses that they allow. A private one is opened by a bearer token, or by the
//! cookie that its ticket was exchanged for, and by a cookie only if it is the circuit's own page that asks.
//!
//! Invariant: nothing here answers, forwards or keeps a request; whoever does asks here first. What was verified once is
//! judged anew each time: only the signature is not looked at again.

mod credentials;
mod keys;
mod login;
mod rules;
mod same_site;
mod ticket;
mod verified;

use std::net::IpAddr;
use std::sync::Arc;

use entities::authority::Scheme;
use entities::clock::SharedClock;
use entities::token::{Claims, CookieKey, TokenError, TokenKind, verify};
use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};

use crate::head::RequestView;
use credentials::{bearer_tokens, cookies_named};
pub(crate) use credentials::{is_own_bearer, is_own_cookie, is_ticket_referer, remove_credentials};
pub use keys::PublicKeys;
pub(crate) use login::login_location;
pub use rules::Rules;
use same_site::{Page, is_from_own_page};
pub(crate) use ticket::{RESERVED_PATH, TICKET_PATH};
use verified::VerifiedTokens;

/// Decides for all circuits of an edge.
pub struct Authorizer {
    keys: Arc<PublicKeys>,
    /// The first makes cookies, all of them are read.
    cookie_keys: Vec<CookieKey>,
    verified: VerifiedTokens,
    clock: SharedClock,
}

/// What a request showed that opens the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Nothing was needed.
    Free,
    /// A bearer token.
    Token,
    /// A cookie.
    Cookie,
}

/// Why a request does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The client is at an address that the circuit does not allow.
    #[error("the address is in no range that the circuit allows")]
    Client,
    /// Nothing was shown.
    #[error("no credential")]
    NoCredential,
    /// What was shown opens nothing here.
    #[error("a credential was shown: {0}")]
    BadCredential(TokenError),
    /// The cookie is right, but not the circuit's own page made the browser send it.
    #[error("another site asks with the cookie of the user")]
    CrossOrigin,
}

// === impl Authorizer ===

impl Authorizer {
    /// Decides with these keys; there is at least one for cookies, or none is made and none is read.
    #[must_use]
    pub fn new(keys: Arc<PublicKeys>, cookie_keys: Vec<CookieKey>, clock: SharedClock) -> Self {
        Self { keys, cookie_keys, verified: VerifiedTokens::new(), clock }
    }

    /// Whether `request` from `ip` may use the circuit with these rules, which is reached by `scheme` at `host`, the value
    /// of its `Host` field. Of a client behind a proxy that does not say for whom it speaks nobody knows the address.
    ///
    /// # Errors
    /// Why it may not.
    pub fn authorize(
        &self,
        rules: &Rules,
        request: &impl RequestView,
        ip: Option<IpAddr>,
        scheme: Scheme,
        host: &str,
    ) -> Result<Pass, Denial> {
        rules.admit(ip)?;
        if rules.is_public {
            return Ok(Pass::Free);
        }
        let mut denial = Denial::NoCredential;
        for token in bearer_tokens(request) {
            match self.open(TokenKind::Bearer, token, rules) {
                Ok(()) => return Ok(Pass::Token),
                Err(error) => denial = Denial::BadCredential(error),
            }
        }
        let page = Page { scheme, host, allowed: &rules.allowed_origins };
        for cookie in cookies_named(request, rules.id, scheme) {
            match self.open(TokenKind::Cookie, cookie, rules) {
                Ok(()) if is_from_own_page(request, &page) => return Ok(Pass::Cookie),
                Ok(()) => return Err(Denial::CrossOrigin),
                Err(error) => denial = Denial::BadCredential(error),
            }
        }
        if rules.allow_preflight && is_preflight(request) && is_from_own_page(request, &page) {
            return Ok(Pass::Free);
        }
        Err(denial)
    }

    /// Whether `token` opens the circuit with these rules now.
    fn open(&self, kind: TokenKind, token: &[u8], rules: &Rules) -> Result<(), TokenError> {
        self.read(kind, token)?.judge(rules.id, rules.generation, self.now_s())
    }

    fn read(&self, kind: TokenKind, token: &[u8]) -> Result<Arc<Claims>, TokenError> {
        let keys = self.keys.current();
        if let Some(claims) = self.verified.find(kind, token, keys.generation) {
            return Ok(claims);
        }
        let claims = match kind {
            TokenKind::Cookie => verify(kind, token, &self.cookie_keys[..])?,
            TokenKind::Ticket | TokenKind::Bearer => verify(kind, token, &*keys)?,
        };
        let claims = Arc::new(claims);
        self.verified.keep(kind, token, keys.generation, &claims);
        Ok(claims)
    }

    fn now_s(&self) -> i64 {
        self.clock.now_ms().div_euclid(1_000)
    }
}

/// Fetch standard, §3.3.2: a preflight says who asks and for which method.
fn is_preflight(request: &impl RequestView) -> bool {
    *request.method() == Method::OPTIONS && request.has(&ORIGIN) && request.has(&ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests;
