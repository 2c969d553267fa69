//! Whether a request carries a worker key.
//!
//! Invariant: both fields count alike, and what they hold is compared by [`WorkerKeys`] alone.

use crate::keys::WorkerKeys;

/// Whether a key is in `Authorization: Bearer <key>` or in `X-BackendAI-Token: <key>`.
pub(super) fn is_in(keys: &WorkerKeys, authorization: Option<&[u8]>, token: Option<&[u8]>) -> bool {
    let bearer = authorization.and_then(|value| {
        let (scheme, key) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key.trim_ascii())
    });
    [bearer, token].into_iter().flatten().any(|presented| keys.accepts(presented))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::keys_of;

    #[test]
    fn the_key_is_taken_from_either_field_and_nothing_else_passes() {
        let keys = keys_of("secret", &["second"]);
        let is_in = |authorization, token| is_in(&keys, authorization, token);
        assert!(is_in(Some(b"Bearer secret"), None));
        assert!(is_in(Some(b"bearer second"), None));
        assert!(is_in(None, Some(b"secret")));
        assert!(is_in(Some(b"Basic x"), Some(b"secret")));
        for wrong in [&b"secret"[..], b"Bearer", b"Bearer ", b"Bearer secre", b"Bearer secrets", b"Basic secret"] {
            assert!(!is_in(Some(wrong), None), "{wrong:?}");
        }
        assert!(!is_in(None, None));
    }
}
