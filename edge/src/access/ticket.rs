//! Exchanges a ticket for a cookie.
//!
//! Invariant: a ticket leads nowhere but to a path of the circuit's own host, and its exchange is stored nowhere.

use entities::access::is_local_path;
use entities::authority::Scheme;
use entities::limits::COOKIE_LIFE_S;
use entities::token::{Claims, TokenError, TokenKind};
use http::HeaderValue;

use super::credentials::cookie_name;
use super::{Authorizer, Rules};

/// Paths that begin so are the edge's own on every circuit: nothing of them is forwarded.
pub(crate) const RESERVED_PATH: &str = "/.appproxy/";

/// Where tickets are exchanged.
pub(crate) const TICKET_PATH: &str = "/.appproxy/ticket";

/// What a browser gets for its ticket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exchanged {
    /// The value of `Set-Cookie`.
    pub(crate) cookie: HeaderValue,
    /// The value of `Location`.
    pub(crate) location: HeaderValue,
}

// === impl Authorizer ===

impl Authorizer {
    /// Exchanges the ticket in `query` for the cookie of the circuit with these rules, which is reached by `scheme`.
    ///
    /// # Errors
    /// Why the ticket opens nothing.
    pub(crate) fn exchange(&self, rules: &Rules, query: &str, scheme: Scheme) -> Result<Exchanged, TokenError> {
        let ticket = query.split('&').find_map(|pair| pair.strip_prefix("t=")).ok_or(TokenError::Malformed)?;
        let claims = entities::token::verify(TokenKind::Ticket, ticket.as_bytes(), &*self.keys.current())?;
        let now_s = self.now_s();
        claims.judge(rules.id, rules.generation, now_s)?;
        let location = claims.redirect.as_deref().filter(|path| is_local_path(path)).unwrap_or("/");
        let location = HeaderValue::from_str(location).map_err(|_| TokenError::Malformed)?;
        let cookie = self.cookie(rules, scheme, now_s).ok_or(TokenError::UnknownKey)?;
        Ok(Exchanged { cookie, location })
    }

    fn cookie(&self, rules: &Rules, scheme: Scheme, now_s: i64) -> Option<HeaderValue> {
        let claims = Claims::new(TokenKind::Cookie, rules.id, rules.generation, now_s + COOKIE_LIFE_S);
        let value = self.cookie_keys.first()?.sign(&claims).ok()?;
        let name = cookie_name(rules.id, scheme);
        let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
        // Host-only for want of `Domain`, lax so that links from the manager's pages work (RFC 6265bis §5.2).
        let field = format!("{name}={value}; Path=/; Max-Age={COOKIE_LIFE_S}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::from_str(&field).ok()
    }
}
