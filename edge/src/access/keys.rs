//! The public keys that coordinators sign with.
//!
//! Invariant: whoever reads sees all of a change or nothing of it, and every change has a generation of its own, so that
//! what an earlier key vouched for is not taken for verified.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use entities::limits::MAX_SIGNING_KEYS;
use entities::token::{KeyId, KeyRing, PublicKey, VerifyingKey};

/// The keys of an edge, which come and go while it runs.
#[derive(Default)]
pub struct PublicKeys {
    current: ArcSwap<Keys>,
}

/// The keys of one moment.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_id: BTreeMap<KeyId, PublicKey>,
    /// How often they have changed.
    pub(super) generation: u64,
}

// === impl PublicKeys ===

impl PublicKeys {
    /// The keys now.
    pub(super) fn current(&self) -> Arc<Keys> {
        self.current.load_full()
    }

    /// These and no others; whether that is a change. Only one task changes keys.
    pub fn replace(&self, keys: impl IntoIterator<Item = PublicKey>) -> bool {
        let by_id: BTreeMap<KeyId, PublicKey> = keys.into_iter().map(|key| (key.id(), key)).collect();
        self.set(by_id)
    }

    /// One more, or `None` for one less; whether that is a change.
    pub(crate) fn change(&self, id: &KeyId, key: Option<PublicKey>) -> bool {
        let mut by_id = self.current().by_id.clone();
        match key {
            Some(key) => by_id.insert(id.clone(), key),
            None => by_id.remove(id),
        };
        self.set(by_id)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<PublicKey> {
        self.current().by_id.values().copied().collect()
    }

    fn set(&self, mut by_id: BTreeMap<KeyId, PublicKey>) -> bool {
        let before = self.current();
        if by_id.len() > MAX_SIGNING_KEYS {
            tracing::error!(keys = by_id.len(), limit = MAX_SIGNING_KEYS, "too many signing keys, some are left out");
            while by_id.len() > MAX_SIGNING_KEYS {
                by_id.pop_last();
            }
        }
        if by_id == before.by_id {
            return false;
        }
        let ids: Vec<&str> = by_id.keys().map(KeyId::as_str).collect();
        tracing::info!(keys = ?ids, "the keys that tickets and tokens are signed with");
        self.current.store(Arc::new(Keys { by_id, generation: before.generation + 1 }));
        true
    }
}

impl KeyRing for Keys {
    fn find(&self, id: &KeyId) -> Option<VerifyingKey> {
        self.by_id.get(id).map(PublicKey::verifying_key)
    }
}

#[cfg(test)]
mod tests {
    use entities::token::SigningKey;

    use super::*;

    fn key(number: u8) -> PublicKey {
        SigningKey::from_seed([number; 32]).public()
    }

    #[test]
    fn a_change_has_a_generation_of_its_own_and_no_change_has_none() {
        let keys = PublicKeys::default();
        assert!(keys.replace([key(1), key(2)]));
        assert!(!keys.replace([key(2), key(1)]));
        assert_eq!(keys.current().generation, 1);
        assert!(keys.change(&key(1).id(), None));
        assert!(!keys.change(&key(1).id(), None));
        assert_eq!((keys.current().generation, keys.all()), (2, vec![key(2)]));
        assert!(keys.change(&key(3).id(), Some(key(3))));
        assert_eq!(keys.all().len(), 2);
    }

    #[test]
    fn there_are_no_more_keys_than_the_limit() {
        let keys = PublicKeys::default();
        let many = (0..=u8::try_from(MAX_SIGNING_KEYS).expect("small")).map(key);
        keys.replace(many);
        assert_eq!(keys.all().len(), MAX_SIGNING_KEYS);
    }
}
