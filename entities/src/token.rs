//! What opens a private circuit: tickets, bearer tokens and cookies, all signed JSON Web Tokens (RFC 7519, RFC 8725).
//!
//! Coordinators sign tickets and bearer tokens with Ed25519 (RFC 8037); edges hold the public halves only. Edges make
//! cookies themselves, with a key that the edges of one authority share.
//!
//! Invariant: what is signed names the kind of token, one circuit, one generation of its access rules and an end, and
//! nothing passes for another kind: each has its own type, its own audience and one algorithm (RFC 8725 §3.1, §3.11).

mod crypto;
mod keys;

use std::sync::LazyLock;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::circuit::Circuit;
use crate::ids::{CircuitId, Generation, UserId};
use crate::limits::MAX_TOKEN_BYTES;

pub use keys::{CookieKey, KeyError, KeyId, PublicKey, SigningKey, VerifyingKey};

/// The kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Opens a circuit in a browser, once it is exchanged for a cookie; lives a minute.
    Ticket,
    /// Opens a circuit for API clients: `Authorization: Bearer`.
    Bearer,
    /// What a browser keeps.
    Cookie,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The kind of token again: its signature covers this, and libraries look for it here.
    aud: String,
    /// Which circuit it opens.
    #[serde(rename = "cid", with = "uuid::serde::simple")]
    circuit: uuid::Uuid,
    /// Which generation of the circuit's access rules it was made under; a change of the rules ends it.
    #[serde(rename = "gen")]
    access_generation: Generation,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires_at_s: i64,
    /// For whom it was made.
    #[serde(rename = "sub", default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Where a ticket leads once it is exchanged: a path of the circuit's own host.
    #[serde(rename = "to", default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
}

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of this kind.
    #[error("it is malformed, or of another kind")]
    Malformed,
    /// No key that is accepted has signed it.
    #[error("it was signed with a key that is not accepted")]
    UnknownKey,
    /// The signature does not fit.
    #[error("its signature does not fit")]
    BadSignature,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// It opens another circuit, or an earlier life of this one.
    #[error("it opens another circuit")]
    OtherCircuit,
    /// The circuit's access rules have changed since it was made.
    #[error("it was revoked by a change of the access rules")]
    Revoked,
}

/// Why there is no token. Neither case depends on what a caller says.
#[derive(Debug, thiserror::Error)]
#[error("a token cannot be signed: {0}")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

/// Finds the key that a token names.
pub trait KeyRing {
    /// A key that may have signed tokens of this kind.
    fn find(&self, id: &KeyId) -> Option<VerifyingKey>;
}

// === impl TokenKind ===

impl TokenKind {
    /// The header's `typ`. Every one begins alike, so that [`is_ours`] needs no parser.
    fn typ(self) -> &'static str {
        match self {
            Self::Ticket => "appproxy-ticket+jwt",
            Self::Bearer => "appproxy-token+jwt",
            Self::Cookie => "appproxy-cookie+jwt",
        }
    }

    fn audience(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Bearer => "token",
            Self::Cookie => "cookie",
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Ticket | Self::Bearer => Algorithm::EdDSA,
            Self::Cookie => Algorithm::HS256,
        }
    }

    /// What the library is to check: nothing but the algorithm and the signature. The rest is [`Claims::judge`]'s, with a
    /// clock from outside.
    fn validation(self) -> &'static Validation {
        static ED: LazyLock<Validation> = LazyLock::new(|| signature_only(Algorithm::EdDSA));
        static MAC: LazyLock<Validation> = LazyLock::new(|| signature_only(Algorithm::HS256));
        match self {
            Self::Ticket | Self::Bearer => &ED,
            Self::Cookie => &MAC,
        }
    }
}

// === impl Claims ===

impl Claims {
    /// Opens `circuit` as its access rules are now, until `expires_at_s`.
    pub fn new(kind: TokenKind, circuit: CircuitId, access_generation: Generation, expires_at_s: i64) -> Self {
        let aud = kind.audience().to_owned();
        Self { aud, circuit: circuit.0, access_generation, expires_at_s, user_id: None, redirect: None }
    }

    /// The same for a stored circuit.
    pub fn of(kind: TokenKind, circuit: &Circuit, expires_at_s: i64) -> Self {
        Self::new(kind, circuit.id, circuit.access_generation, expires_at_s)
    }

    /// Whether this opens `circuit`, whose access rules have this generation, at `now_s`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn judge(&self, circuit: CircuitId, access_generation: Generation, now_s: i64) -> Result<(), TokenError> {
        if self.circuit != circuit.0 {
            Err(TokenError::OtherCircuit)
        } else if self.access_generation != access_generation {
            Err(TokenError::Revoked)
        } else if now_s >= self.expires_at_s {
            Err(TokenError::Expired)
        } else {
            Ok(())
        }
    }
}

fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn encode(
    kind: TokenKind,
    claims: &Claims,
    id: &KeyId,
    key: &jsonwebtoken::EncodingKey,
) -> Result<String, jsonwebtoken::errors::Error> {
    crypto::install();
    let header =
        Header { typ: Some(kind.typ().to_owned()), kid: Some(id.as_str().to_owned()), ..Header::new(kind.algorithm()) };
    jsonwebtoken::encode(&header, claims, key)
}

/// Reads a token of this kind that one of `keys` has signed. What it opens, and until when, is for [`Claims::judge`].
///
/// # Errors
/// [`TokenError::Malformed`], [`TokenError::UnknownKey`] or [`TokenError::BadSignature`].
pub fn verify(kind: TokenKind, token: &[u8], keys: &(impl KeyRing + ?Sized)) -> Result<Claims, TokenError> {
    crypto::install();
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
    if header.typ.as_deref() != Some(kind.typ()) || header.alg != kind.algorithm() || header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    let id: KeyId = header.kid.as_deref().and_then(|kid| kid.parse().ok()).ok_or(TokenError::Malformed)?;
    let key = keys.find(&id).ok_or(TokenError::UnknownKey)?;
    let claims = match jsonwebtoken::decode::<Claims>(token, &key.0, kind.validation()) {
        Ok(decoded) => decoded.claims,
        Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => return Err(TokenError::BadSignature),
        Err(_) => return Err(TokenError::Malformed),
    };
    if claims.aud == kind.audience() { Ok(claims) } else { Err(TokenError::Malformed) }
}

/// Whether `text` is meant to be a token of ours, whatever it is worth: it begins with a header that says so. Tokens are
/// written by this module alone, so the header's first bytes are always these.
pub fn is_ours(text: &[u8]) -> bool {
    /// `{"typ":"appproxy-` in base64url, as far as whole letters go.
    const BEGIN: &[u8] = b"eyJ0eXAiOiJhcHBwcm94eS";
    text.starts_with(BEGIN)
}

#[cfg(test)]
mod tests;
