//! Tokens whose signatures were verified a while ago.
//!
//! Invariant: only what was verified comes in, so nobody fills the memory with guesses; what it says is judged again by
//! whoever finds it, and nothing is found that keys of another generation vouched for.

use std::sync::Arc;

use entities::token::{Claims, TokenKind};
use quick_cache::sync::Cache;

/// Tokens that are remembered. A token and what is kept with it take half a KiB, so all of them take 5 MiB.
const CAPACITY: usize = 10_000;

/// A bounded memory; what is used least makes room.
pub(super) struct VerifiedTokens {
    tokens: Cache<Box<[u8]>, Verified>,
}

#[derive(Clone)]
struct Verified {
    kind: TokenKind,
    keys_generation: u64,
    claims: Arc<Claims>,
}

// === impl VerifiedTokens ===

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self { tokens: Cache::new(CAPACITY) }
    }

    /// What `token` says, if it was verified as one of this kind by keys of this generation.
    pub(super) fn find(&self, kind: TokenKind, token: &[u8], keys_generation: u64) -> Option<Arc<Claims>> {
        let verified = self.tokens.get(token)?;
        (verified.kind == kind && verified.keys_generation == keys_generation).then_some(verified.claims)
    }

    pub(super) fn keep(&self, kind: TokenKind, token: &[u8], keys_generation: u64, claims: &Arc<Claims>) {
        self.tokens.insert(token.into(), Verified { kind, keys_generation, claims: Arc::clone(claims) });
    }
}

#[cfg(test)]
mod tests {
    use entities::ids::{CircuitId, Generation};

    use super::*;

    #[test]
    fn a_token_is_known_as_what_it_was_verified_as() {
        let tokens = VerifiedTokens::new();
        let claims = Arc::new(Claims::new(TokenKind::Bearer, CircuitId::random(), Generation(1), 9));
        tokens.keep(TokenKind::Bearer, b"token", 4, &claims);
        assert_eq!(tokens.find(TokenKind::Bearer, b"token", 4), Some(claims));
        assert_eq!(tokens.find(TokenKind::Cookie, b"token", 4), None);
        assert_eq!(tokens.find(TokenKind::Bearer, b"token", 5), None);
        assert_eq!(tokens.find(TokenKind::Bearer, b"token2", 4), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let tokens = VerifiedTokens::new();
        let claims = Arc::new(Claims::new(TokenKind::Bearer, CircuitId::random(), Generation(1), 9));
        for number in 0..3 * CAPACITY {
            tokens.keep(TokenKind::Bearer, &number.to_le_bytes(), 1, &claims);
        }
        assert!(tokens.tokens.len() <= CAPACITY, "{}", tokens.tokens.len());
    }
}
