//! Tickets and bearer tokens for private circuits, and their end.
//!
//! Invariant: what is signed opens one circuit as its access rules are now; nothing of it is stored.

use entities::access::is_local_path;
use entities::circuit::{Backend, Circuit, CircuitPatch};
use entities::clock::from_unix_ms;
use entities::faults::Faults;
use entities::fields::Fields;
use entities::ids::UserId;
use entities::limits::{MAX_BEARER_LIFE_S, MAX_REDIRECT_BYTES, TICKET_LIFE_S};
use entities::orm::from_column;
use entities::token::{Claims, TokenKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::view::CircuitView;
use super::{CircuitError, CircuitName, Circuits};
use crate::store::StoreError;

/// How long a bearer token lives when the caller does not say.
const DEFAULT_BEARER_LIFE_S: u64 = 3_600;

/// Where edges exchange tickets, on each circuit's own host.
const TICKET_PATH: &str = "/.appproxy/ticket";

/// What stays as it is in a path with its query (RFC 3986 §3.3); a percent sign is the caller's own escape.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b'?')
    .remove(b'#')
    .remove(b'%');

/// What a caller wants a ticket for.
#[derive(Debug, Default)]
pub struct TicketRequest {
    /// Who will use it.
    user_id: Option<UserId>,
    /// Where it leads, a path of the circuit's host.
    redirect: Option<String>,
}

/// What a caller wants a bearer token for.
#[derive(Debug)]
pub struct TokenRequest {
    /// Who will use it.
    user_id: Option<UserId>,
    /// How long it lives.
    life_s: u64,
}

/// Opens a private circuit in a browser.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TicketView {
    /// Where to send the browser. For a public circuit it is the page itself.
    pub url: String,
    /// Until when it works; what it is exchanged for works for twelve hours. Absent for a public circuit.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<OffsetDateTime>,
}

/// Opens a private circuit for programs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenView {
    /// To be sent as `Authorization: Bearer <token>`, or as `X-AppProxy-Token` where the application wants
    /// `Authorization` for itself.
    pub token: String,
    /// Until when it works.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

// === impl TicketRequest ===

impl TicketRequest {
    /// Reads the body of `POST /v2/circuits/{circuit}/tickets`.
    pub fn read(body: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let Some(mut fields) = Fields::of(body, "", &mut faults) else { return Err(faults) };
        let user_id = fields.parse::<UserId>("user", &mut faults);
        let redirect = fields.parse_with("redirect", &mut faults, parse_redirect);
        fields.finish(&mut faults);
        faults.into_result(|| Some(Self { user_id, redirect }))
    }
}

fn parse_redirect(text: &str) -> Result<String, String> {
    let path = utf8_percent_encode(text, PATH).to_string();
    if !is_local_path(&path) {
        return Err("must be a path of the circuit's own host, /lab/tree for example".to_owned());
    }
    if path.len() > MAX_REDIRECT_BYTES {
        return Err(format!("must not be longer than {MAX_REDIRECT_BYTES} bytes"));
    }
    Ok(path)
}

// === impl TokenRequest ===

impl TokenRequest {
    /// Reads the body of `POST /v2/circuits/{circuit}/tokens`.
    pub fn read(body: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let Some(mut fields) = Fields::of(body, "", &mut faults) else { return Err(faults) };
        let user_id = fields.parse::<UserId>("user", &mut faults);
        let life_s = fields.integer("expires_in_s", 1, MAX_BEARER_LIFE_S, &mut faults);
        fields.finish(&mut faults);
        faults.into_result(|| Some(Self { user_id, life_s: life_s.unwrap_or(DEFAULT_BEARER_LIFE_S) }))
    }
}

// === impl Circuits ===

impl Circuits {
    /// A link that opens the circuit in a browser.
    pub async fn ticket(&self, name: &CircuitName, request: TicketRequest) -> Result<TicketView, CircuitError> {
        let TicketRequest { user_id, redirect } = request;
        let (circuit, url) = self.opened_by(name, user_id.as_ref()).await?;
        let base = url.trim_end_matches('/');
        if circuit.access.public {
            let url = redirect.map_or_else(|| url.clone(), |path| format!("{base}{path}"));
            return Ok(TicketView { url, expires_at: None });
        }
        let expires_at_s = self.now_s() + TICKET_LIFE_S;
        let mut claims = Claims::of(TokenKind::Ticket, &circuit, expires_at_s);
        claims.user_id = user_id;
        claims.redirect = redirect;
        let ticket = self.signing.sign(TokenKind::Ticket, &claims)?;
        let url = format!("{base}{TICKET_PATH}?t={ticket}");
        Ok(TicketView { url, expires_at: Some(from_unix_ms(expires_at_s * 1_000)) })
    }

    /// A token that opens the circuit for programs.
    pub async fn token(&self, name: &CircuitName, request: TokenRequest) -> Result<TokenView, CircuitError> {
        let TokenRequest { user_id, life_s } = request;
        let (circuit, _) = self.opened_by(name, user_id.as_ref()).await?;
        let expires_at_s = self.now_s().saturating_add(i64::try_from(life_s).unwrap_or(i64::MAX));
        let mut claims = Claims::of(TokenKind::Bearer, &circuit, expires_at_s);
        claims.user_id = user_id;
        let token = self.signing.sign(TokenKind::Bearer, &claims)?;
        Ok(TokenView { token, expires_at: from_unix_ms(expires_at_s * 1_000) })
    }

    /// Ends every ticket, bearer token and cookie of the circuit; the flag tells whether every live worker knows.
    pub async fn revoke(&self, name: &CircuitName) -> Result<(CircuitView, bool), CircuitError> {
        self.change(name, None, &CircuitPatch::revoking()).await
    }

    /// The circuit and its URL, if what is signed for `user` can open it.
    async fn opened_by(&self, name: &CircuitName, user: Option<&UserId>) -> Result<(Circuit, String), CircuitError> {
        let stored = self.find(name).await?;
        let circuit = stored.row.versioned().map_err(StoreError::from)?.circuit;
        if circuit.backend == Backend::Tcp {
            return Err(CircuitError::NotHttp);
        }
        if let (Some(owner), Some(user)) = (&circuit.access.user_id, user)
            && owner != user
        {
            return Err(CircuitError::OtherUser);
        }
        let authority = self.store.authority(&circuit.authority).await?;
        let url = authority.and_then(|authority| authority.url(&circuit.frontend, circuit.protocol));
        tracing::debug!(key = %circuit.key, generation = from_column(stored.row.access_generation), "signing for a circuit");
        Ok((circuit, url.ok_or(CircuitError::NoWayIn)?))
    }

    fn now_s(&self) -> i64 {
        self.clock.now_ms().div_euclid(1_000)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ticket_leads_to_a_path_of_the_circuit_and_nowhere_else() {
        let read = |redirect: &str| TicketRequest::read(&json!({"redirect": redirect})).map(|request| request.redirect);
        for (redirect, path) in [
            ("/", "/"),
            ("/lab/tree?a=1&b=%20#top", "/lab/tree?a=1&b=%20#top"),
            ("/\\evil.test", "/%5Cevil.test"),
            ("/a\r\nX: y", "/a%0D%0AX:%20y"),
            ("/notebooks/r\u{e9}sum\u{e9}.ipynb", "/notebooks/r%C3%A9sum%C3%A9.ipynb"),
        ] {
            assert_eq!(read(redirect).expect("valid").as_deref(), Some(path));
        }
        for redirect in ["", "lab", "//evil.test", "https://evil.test", &"/a".repeat(1_025)] {
            assert!(read(redirect).is_err(), "{redirect}");
        }
        assert!(TicketRequest::read(&json!({})).is_ok());
        assert!(TicketRequest::read(&json!({"url": "x"})).is_err());
    }

    #[test]
    fn a_token_lives_as_long_as_it_may() {
        assert_eq!(TokenRequest::read(&json!({})).expect("valid").life_s, DEFAULT_BEARER_LIFE_S);
        assert_eq!(TokenRequest::read(&json!({"expires_in_s": 5})).expect("valid").life_s, 5);
        for life in [json!(0), json!(MAX_BEARER_LIFE_S + 1), json!("1h"), json!(-1)] {
            assert!(TokenRequest::read(&json!({"expires_in_s": life})).is_err(), "{life}");
        }
    }
}
