//! The keys that tickets and bearer tokens are signed with.
//!
//! Every coordinator of an installation has the same list. To exchange a key: append the new one to every list, restart the
//! coordinators one by one, put it first, restart them again, and take the old one out when what it signed has expired.
//! Edges follow; none of it needs them to be restarted.
//!
//! Invariant: the first key signs and all of them are accepted; only public halves leave this process.

use entities::limits::MAX_SIGNING_KEYS;
use entities::token::{Claims, PublicKey, SignError, SigningKey, TokenKind};

/// The keys of a coordinator.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    first: SigningKey,
    others: Vec<SigningKey>,
}

// === impl SigningKeys ===

impl SigningKeys {
    /// One key and no other.
    pub fn only(key: SigningKey) -> Self {
        Self { first: key, others: Vec::new() }
    }

    /// Reads a list: a key a line; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// What is wrong, with its line; never a part of what might be a key.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut keys: Vec<SigningKey> = Vec::new();
        let mut faults = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.parse::<SigningKey>() {
                Ok(key) if keys.iter().any(|known| known.public() == key.public()) => {
                    faults.push(format!("line {}: the key stands there twice", index + 1));
                }
                Ok(key) => keys.push(key),
                Err(error) => faults.push(format!("line {}: {error}", index + 1)),
            }
        }
        if keys.len() > MAX_SIGNING_KEYS {
            faults.push(format!("more than {MAX_SIGNING_KEYS} keys"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut keys = keys.into_iter();
        match keys.next() {
            Some(first) => Ok(Self { first, others: keys.collect() }),
            None => Err(vec!["there is no key; `openssl rand -hex 32` makes one".to_owned()]),
        }
    }

    /// What edges accept.
    pub fn public(&self) -> Vec<PublicKey> {
        std::iter::once(&self.first).chain(&self.others).map(SigningKey::public).collect()
    }

    /// Signs a ticket or a bearer token.
    pub(crate) fn sign(&self, kind: TokenKind, claims: &Claims) -> Result<String, SignError> {
        self.first.sign(kind, claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_signs_and_all_are_published() {
        let (one, two) = ("ab".repeat(32), "cd".repeat(32));
        let keys = SigningKeys::parse(&format!("# since May\n{one}\n\n  {two}\n")).expect("faultless");
        assert_eq!(keys.public().len(), 2);
        assert_eq!(keys.public()[0], one.parse::<SigningKey>().expect("a key").public());
    }

    #[test]
    fn every_fault_has_its_line_and_no_key() {
        let key = "ab".repeat(32);
        let faults = SigningKeys::parse(&format!("{key}\n{key}\nabc\n{key}ff\n")).expect_err("faulty");
        let lines: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().expect("a place")).collect();
        assert_eq!(lines, ["line 2", "line 3", "line 4"], "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.contains("abab")), "{faults:?}");
        assert_eq!(SigningKeys::parse("# none\n").expect_err("faulty").len(), 1);
    }
}
