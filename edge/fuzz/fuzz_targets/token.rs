//! Tickets, bearer tokens and cookies, as strangers may show them.
//!
//! An input is what is shown, and a list of changes to what was signed, each of four bytes.
//!
//! Invariant: what was signed is accepted as what it is, and nothing else is accepted as anything.

#![no_main]

use std::sync::LazyLock;

use edge_fuzz::signed::{self, Signed};
use entities::ids::{CircuitId, Generation};
use entities::limits::MAX_TOKEN_BYTES;
use entities::token::{Claims, CookieKey, PublicKey, TokenError, TokenKind, is_ours, verify};
use libfuzzer_sys::fuzz_target;

/// Changes to one token: more than a few make it like any other bytes.
const MAX_CHANGES: usize = 8;

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::new);

/// What an edge holds, and everything that was signed with it.
struct Keys {
    public: [PublicKey; 2],
    cookie: [CookieKey; 2],
    signed: Vec<Signed>,
}

impl Keys {
    fn new() -> Self {
        Self {
            public: signed::signing_keys().map(|key| key.public()),
            cookie: signed::cookie_keys(),
            signed: signed::all(),
        }
    }

    fn verify(&self, kind: TokenKind, token: &[u8]) -> Result<Claims, TokenError> {
        match kind {
            TokenKind::Ticket | TokenKind::Bearer => verify(kind, token, &self.public[..]),
            TokenKind::Cookie => verify(kind, token, &self.cookie[..]),
        }
    }

    /// Shown as each kind, a token is accepted exactly if it was signed as that.
    fn judge(&self, token: &[u8]) {
        for kind in [TokenKind::Ticket, TokenKind::Bearer, TokenKind::Cookie] {
            let wanted = self.signed.iter().find(|signed| signed.kind == kind && signed.token.as_bytes() == token);
            let found = self.verify(kind, token);
            assert_eq!(found.ok().as_ref(), wanted.map(|signed| &signed.claims), "{kind:?} {}", token.escape_ascii());
            assert!(wanted.is_none() || is_ours(token));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let keys = &*KEYS;
    keys.judge(bytes);
    let changes: Vec<&[u8]> = bytes.chunks_exact(4).take(MAX_CHANGES).collect();
    let Some([which, ..]) = changes.first() else { return };
    let signed = &keys.signed[usize::from(*which) % keys.signed.len()];
    let mut token = signed.token.clone().into_bytes();
    for change in changes {
        apply(change, &mut token, &keys.signed);
        keys.judge(&token);
    }
    assert_eq!(keys.verify(signed.kind, signed.token.as_bytes()).as_ref(), Ok(&signed.claims));
    assert_eq!(signed.claims.judge(CircuitId(signed::CIRCUIT), Generation(3), signed::END_S - 1), Ok(()));
});

/// One change: what is done, where (two bytes), and with what.
fn apply(change: &[u8], token: &mut Vec<u8>, all: &[Signed]) {
    let &[kind, high, low, what] = change else { return };
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return;
    }
    let at = usize::from(u16::from_be_bytes([high, low])) % token.len();
    let other = all[usize::from(what) % all.len()].token.as_bytes();
    match kind % 8 {
        0 => token.insert(at, what),
        1 => drop(token.remove(at)),
        2 => token[at] = what,
        3 => token[at] ^= 1 << (what % 8),
        4 => token.truncate(at),
        5 => swap_part(token, usize::from(high) % 3, other, usize::from(low) % 3),
        6 => token.extend_from_slice(&other[at % other.len()..]),
        _ => drop(token.drain(at..(at + usize::from(what)).min(token.len()))),
    }
}

/// Puts a part of another token in place of a part of this one.
fn swap_part(token: &mut Vec<u8>, index: usize, other: &[u8], other_index: usize) {
    let mut parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let Some(part) = other.split(|byte| *byte == b'.').nth(other_index) else { return };
    if let Some(place) = parts.get_mut(index) {
        *place = part;
    }
    *token = parts.join(&b'.');
}
