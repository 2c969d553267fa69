//! Publishes the public keys of tickets and bearer tokens.
//!
//! Invariant: after a round the registry holds exactly the keys of this coordinator. Coordinators whose lists differ for the
//! minutes of an exchange write over each other, which hurts nobody: none signs with a key that the others lack.

use std::collections::BTreeMap;

use entities::registry::layout::{Place, decode_public_key, encode_public_key};
use entities::registry::{Change, Entry, Expected};
use entities::token::{KeyId, PublicKey};

use super::{PublishError, Publisher};

impl Publisher {
    /// Makes the registry hold `keys` and no others; how many had to be written or deleted.
    pub async fn publish_keys(&self, keys: &[PublicKey]) -> Result<usize, PublishError> {
        let before = self.standing.reached();
        let listing = self.registry.list(&self.layout.keys()).await?;
        self.standing.note(before, listing.revision)?;
        let mut found: BTreeMap<KeyId, Entry> = BTreeMap::new();
        let mut strays = Vec::new();
        for entry in listing.entries {
            match self.layout.parse(&entry.key) {
                Place::Key(id) => {
                    found.insert(id, entry);
                }
                _ => strays.push(entry),
            }
        }
        let mut changes = 0;
        let fence = self.standing.fence().await?;
        for key in keys {
            let id = key.id();
            let known = found.remove(&id);
            let expected = match &known {
                Some(entry) if decode_public_key(&id, &entry.value).is_ok() => continue,
                Some(entry) => Expected::At(entry.revision),
                None => Expected::Absent,
            };
            let change = Change::Put { value: encode_public_key(key)?, lease: None };
            self.write_fenced(&self.layout.key(&id), expected, change, &fence).await?;
            tracing::info!(%id, "published a public key");
            changes += 1;
        }
        for entry in found.into_values().chain(strays) {
            self.write_fenced(&entry.key, Expected::At(entry.revision), Change::Delete, &fence).await?;
            tracing::info!(key = entry.key, "withdrew a public key");
            changes += 1;
        }
        Ok(changes)
    }
}
