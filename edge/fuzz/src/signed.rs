//! What was signed, for the target `token` and for its corpus: the same bytes each time.

use entities::ids::{CircuitId, Generation};
use entities::token::{Claims, CookieKey, SigningKey, TokenKind};
use uuid::Uuid;

/// What every token opens.
pub const CIRCUIT: Uuid = Uuid::from_u128(7);

/// When every token ends.
pub const END_S: i64 = 1_790_000_060;

/// A token and what it says.
pub struct Signed {
    /// A name for its file.
    pub name: &'static str,
    /// What it was signed as.
    pub kind: TokenKind,
    /// What it says.
    pub claims: Claims,
    /// The token itself.
    pub token: String,
}

/// A new key and an old one: both are accepted.
pub fn signing_keys() -> [SigningKey; 2] {
    [1, 2].map(|seed| SigningKey::from_seed([seed; 32]))
}

/// The same for cookies.
pub fn cookie_keys() -> [CookieKey; 2] {
    ["new", "old"].map(CookieKey::derived_from)
}

/// One token of each kind and key, some with a user and a place to go to.
pub fn all() -> Vec<Signed> {
    let (signing_keys, cookie_keys) = (signing_keys(), cookie_keys());
    let sign = |(name, kind, key): (&'static str, TokenKind, usize)| {
        let mut claims = Claims::new(kind, CircuitId(CIRCUIT), Generation(3), END_S);
        if key > 0 {
            claims.user_id = "user@lab.test".parse().ok();
            claims.redirect = Some("/lab?token=1".to_owned());
        }
        let token = match kind {
            TokenKind::Ticket | TokenKind::Bearer => signing_keys[key].sign(kind, &claims),
            TokenKind::Cookie => cookie_keys[key].sign(&claims),
        };
        Signed { name, kind, claims, token: token.expect("signs") }
    };
    [
        ("ticket", TokenKind::Ticket, 0),
        ("ticket_of_the_old_key", TokenKind::Ticket, 1),
        ("bearer", TokenKind::Bearer, 0),
        ("bearer_of_the_old_key", TokenKind::Bearer, 1),
        ("cookie", TokenKind::Cookie, 0),
        ("cookie_of_the_old_key", TokenKind::Cookie, 1),
    ]
    .map(sign)
    .into()
}
