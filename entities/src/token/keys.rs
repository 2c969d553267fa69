//! The keys behind tokens.
//!
//! Invariant: no secret is printed. A key's id is made from the key, so that two keys never share one and a holder of a
//! file of keys can tell which is which.

use std::fmt;
use std::str::FromStr;

use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Claims, KeyRing, SignError, TokenKind};

/// Bytes of a secret: that of an Ed25519 seed, and of what SHA-256 gives.
const SECRET_BYTES: usize = 32;

/// Letters of a key's id: 64 bits tell the keys of an installation apart.
const ID_LETTERS: usize = 16;

/// What separates the cookie key from everything else that is made of the same secret.
const COOKIE_CONTEXT: &[u8] = b"appproxy cookie key 1\0";

/// Names a key: 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the digits that it has to be.
    #[error("must be 64 hexadecimal digits; `openssl rand -hex 32` makes such a key")]
    Secret,
    /// Not an id.
    #[error("must be 16 lower-case hexadecimal digits")]
    Id,
    /// Not the public half of a key.
    #[error("is not a public Ed25519 key")]
    Public,
}

/// Signs tickets and bearer tokens (Ed25519, RFC 8032).
#[derive(Clone)]
pub struct SigningKey {
    public: PublicKey,
    key: EncodingKey,
}

/// The half of a [`SigningKey`] that edges hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; SECRET_BYTES]);

/// What a signature is verified with.
pub struct VerifyingKey(pub(super) DecodingKey);

/// Makes and reads cookies (HMAC-SHA-256, RFC 2104).
#[derive(Clone)]
pub struct CookieKey {
    id: KeyId,
    secret: [u8; SECRET_BYTES],
}

// === impl KeyId ===

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(bytes: &[u8]) -> Self {
        Self(to_hex(&Sha256::digest(bytes)).chars().take(ID_LETTERS).collect())
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == ID_LETTERS && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(KeyError::Id)
        }
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

// === impl SigningKey ===

impl SigningKey {
    /// The key with this seed.
    pub fn from_seed(seed: [u8; SECRET_BYTES]) -> Self {
        let pair = ed25519_dalek::SigningKey::from_bytes(&seed);
        Self { public: PublicKey(pair.verifying_key().to_bytes()), key: EncodingKey::from_ed_der(&seed) }
    }

    /// The half that anybody may have.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs a ticket or a bearer token.
    ///
    /// # Errors
    /// [`SignError`] if the library refuses.
    pub fn sign(&self, kind: TokenKind, claims: &Claims) -> Result<String, SignError> {
        Ok(super::encode(kind, claims, &self.public.id(), &self.key)?)
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        from_hex(text).map(Self::from_seed).ok_or(KeyError::Secret)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKey").field("id", &self.public.id()).finish_non_exhaustive()
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// Its name.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    /// To verify with.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(DecodingKey::from_ed_der(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = from_hex(text).ok_or(KeyError::Public)?;
        match ed25519_dalek::VerifyingKey::from_bytes(&bytes) {
            // With a weak key one signature fits many messages.
            Ok(key) if !key.is_weak() => Ok(Self(bytes)),
            _ => Err(KeyError::Public),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&to_hex(&self.0))
    }
}

impl KeyRing for [PublicKey] {
    fn find(&self, id: &KeyId) -> Option<VerifyingKey> {
        self.iter().find(|key| key.id() == *id).map(PublicKey::verifying_key)
    }
}

// === impl CookieKey ===

impl CookieKey {
    /// A key made of `secret`, which is used for other things as well.
    pub fn derived_from(secret: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(COOKIE_CONTEXT);
        digest.update(secret.as_bytes());
        let secret: [u8; SECRET_BYTES] = digest.finalize().into();
        Self { id: KeyId::of(&secret), secret }
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Makes a cookie.
    ///
    /// # Errors
    /// [`SignError`] if the library refuses.
    pub fn sign(&self, claims: &Claims) -> Result<String, SignError> {
        Ok(super::encode(TokenKind::Cookie, claims, &self.id, &EncodingKey::from_secret(&self.secret))?)
    }
}

impl KeyRing for [CookieKey] {
    fn find(&self, id: &KeyId) -> Option<VerifyingKey> {
        let key = self.iter().find(|key| key.id == *id)?;
        Some(VerifyingKey(DecodingKey::from_secret(&key.secret)))
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CookieKey").field("id", &self.id).finish_non_exhaustive()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    if text.len() != 2 * SECRET_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
