//! Whether a request carries the worker key.
//!
//! Invariant: the comparison takes the same time whatever is presented, and the key itself is not kept.

use openssl::sha::sha256;

/// Knows the worker key when it sees it.
#[derive(Clone)]
pub(super) struct KeyCheck {
    digest: [u8; 32],
}

// === impl KeyCheck ===

impl KeyCheck {
    /// Knows `key`.
    pub(super) fn new(key: &str) -> Self {
        Self { digest: sha256(key.as_bytes()) }
    }

    /// Whether the key is in `Authorization: Bearer <key>` or in `X-BackendAI-Token: <key>`.
    pub(super) fn is_in(&self, authorization: Option<&[u8]>, token: Option<&[u8]>) -> bool {
        let bearer = authorization.and_then(|value| {
            let (scheme, key) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key.trim_ascii())
        });
        [bearer, token].into_iter().flatten().any(|presented| self.is_key(presented))
    }

    fn is_key(&self, presented: &[u8]) -> bool {
        openssl::memcmp::eq(&sha256(presented), &self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_taken_from_either_field_and_nothing_else_passes() {
        let check = KeyCheck::new("secret");
        assert!(check.is_in(Some(b"Bearer secret"), None));
        assert!(check.is_in(Some(b"bearer secret"), None));
        assert!(check.is_in(None, Some(b"secret")));
        assert!(check.is_in(Some(b"Basic x"), Some(b"secret")));
        for wrong in [&b"secret"[..], b"Bearer", b"Bearer ", b"Bearer secre", b"Bearer secrets", b"Basic secret"] {
            assert!(!check.is_in(Some(wrong), None), "{wrong:?}");
        }
        assert!(!check.is_in(None, None));
    }
}
