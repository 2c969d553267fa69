//! The registry of a cluster, in etcd.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | how etcd is reached |
//! | `connection` | one connection per endpoint, over OpenSSL |
//! | `login` | one login for everybody |
//! | `calls` | endpoints, time limits, and what the client crate does with an odd answer |
//! | `failure` | what a failed call means |
//! | `paging` | how large the pages of a list are |
//! | `watch` | the watch stream |
//!
//! # Invariants
//!
//! * etcd-rs is known here and nowhere else.
//! * No call lasts longer than its time limit, list aside: that has one for each page that it asks for.
//! * No message is larger than the 4 MiB that etcd-rs decodes, as long as values keep to their limit; where they do
//!   not, calls fail and watches end, and neither hangs.
//! * No text of an error or of `Debug` holds a password or a token.

mod calls;
pub mod config;
mod connection;
mod failure;
mod login;
mod paging;
mod watch;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use etcd_rs::{
    DeleteRequest, KeyRange, KeyValue, KeyValueOp, LeaseGrantRequest, LeaseOp, LeaseRevokeRequest, PutRequest,
    RangeRequest, RangeResponse, TxnCmp, TxnOp, TxnRequest,
};

use self::calls::{Calls, Repeat};
use self::config::{EtcdConfig, EtcdConfigError};
use self::failure::{Failure, Kind};
use self::paging::PageSize;
use super::{Change, Entry, Expected, LeaseId, Listing, Registry, RegistryError, Swap, Watch, Write};
use crate::ids::Revision;
use crate::limits::MAX_REGISTRY_VALUE_BYTES;

/// The registry of a cluster.
pub struct EtcdRegistry {
    calls: Calls,
}

// === impl EtcdRegistry ===

impl EtcdRegistry {
    /// A registry that connects when it is first used, and again whenever a connection broke.
    ///
    /// Connections live on the tokio runtime that this is called in.
    ///
    /// # Errors
    /// If `config` cannot work. Whether etcd answers is seen by the first call.
    pub fn new(config: EtcdConfig) -> Result<Self, EtcdConfigError> {
        Ok(Self { calls: Calls::new(config)? })
    }

    /// One page from `from` on, at `revision` unless it is the first.
    async fn page(
        &self,
        from: &[u8],
        end: &[u8],
        revision: Option<i64>,
        size: &mut PageSize,
    ) -> Result<RangeResponse, Failure> {
        match self.page_of(from, end, revision, size.keys()).await {
            // An answer that is larger than the client decodes, among others.
            Err(failure) if failure.kind == Kind::Refused && size.shrink() => {
                self.page_of(from, end, revision, size.keys()).await
            }
            answer => answer,
        }
        .inspect(|page| size.note(&page.kvs))
    }

    async fn page_of(
        &self,
        from: &[u8],
        end: &[u8],
        revision: Option<i64>,
        keys: u64,
    ) -> Result<RangeResponse, Failure> {
        self.calls
            .make(Repeat::Harmless, |client| {
                let range = RangeRequest::new(KeyRange::range(from, end)).limit(keys);
                let range = range.revision(revision.unwrap_or(0));
                async move { Ok(client.get(range).await?) }
            })
            .await
    }
}

impl fmt::Debug for EtcdRegistry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<&str> = self.calls.endpoints().collect();
        formatter.debug_struct("EtcdRegistry").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

#[async_trait]
impl Registry for EtcdRegistry {
    async fn list(&self, prefix: &str) -> Result<Listing, RegistryError> {
        let KeyRange { key: mut from, range_end: end } = KeyRange::prefix(prefix);
        let mut entries = Vec::new();
        let mut revision = None;
        let mut size = PageSize::new();
        loop {
            let page = match self.page(&from, &end, revision, &mut size).await {
                Ok(page) => page,
                Err(failure) => return Err(failure.of_revision(revision.map(to_revision).unwrap_or_default())),
            };
            let revision = *revision.get_or_insert(page.header.revision());
            let next = page.kvs.last().filter(|_| page.has_more).map(key_after);
            entries.extend(page.kvs.into_iter().filter_map(entry));
            match next {
                Some(next) => from = next,
                None => return Ok(Listing { revision: to_revision(revision), entries }),
            }
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, RegistryError> {
        self.calls
            .make(Repeat::Harmless, |client| watch::open(client, prefix.to_owned(), from))
            .await
            .map(watch::Opened::run)
            .map_err(|failure| failure.of_revision(from))
    }

    async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), RegistryError> {
        let answer = self
            .calls
            .make(Repeat::Harmless, |client| {
                let range = RangeRequest::new(KeyRange::key(key));
                async move { Ok(client.get(range).await?) }
            })
            .await?;
        Ok((answer.kvs.into_iter().next().and_then(entry), to_revision(answer.header.revision())))
    }

    async fn write(&self, write: Write<'_>) -> Result<Swap, RegistryError> {
        if let Change::Put { value, .. } = &write.change
            && value.len() > MAX_REGISTRY_VALUE_BYTES
        {
            return Err(RegistryError::ValueTooLarge { bytes: value.len(), limit: MAX_REGISTRY_VALUE_BYTES });
        }
        let Some(compared) = compared(&write) else { return Ok(Swap::Conflict) };
        let answer = self
            .calls
            .make(Repeat::Harmful, |client| {
                let swap = compared.iter().fold(TxnRequest::new(), |swap, (key, at)| {
                    swap.when_mod_revision(KeyRange::key(*key), TxnCmp::Equal, *at)
                });
                let swap = swap.and_then(operation(&write));
                async move { Ok(client.txn(swap).await?) }
            })
            .await?;
        Ok(if answer.succeeded { Swap::Done(to_revision(answer.header.revision())) } else { Swap::Conflict })
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        let ttl = whole_seconds(ttl);
        // A grant that nobody heard of ends by itself.
        let answer = self
            .calls
            .make(Repeat::Harmless, |client| async move { Ok(client.grant_lease(LeaseGrantRequest::new(ttl)).await?) })
            .await?;
        Ok(LeaseId(answer.id))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        let ttl_s = self
            .calls
            .make(Repeat::Harmless, |client| async move {
                // etcd-rs drops the first answer; only the second tells whether the lease still lives.
                let mut stream = client.keep_alive_for(lease.0).await?;
                let answer = stream.keep_alive().await?;
                answer.map(|answer| answer.ttl).ok_or_else(|| Failure::unclear("etcd ended the stream"))
            })
            .await?;
        // etcd does not call an ended lease an error.
        if ttl_s > 0 { Ok(()) } else { Err(RegistryError::LeaseEnded) }
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), RegistryError> {
        let revoked = self
            .calls
            .make(Repeat::Harmless, |client| async move { Ok(client.revoke(LeaseRevokeRequest::new(lease.0)).await?) })
            .await;
        match revoked {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == Kind::LeaseEnded => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// The keys that must be as they were, each with the revision that must have written it last: 0 is that of a key that
/// is not there. `None` if there can be no such revision.
fn compared<'a>(write: &Write<'a>) -> Option<Vec<(&'a str, usize)>> {
    let at = match write.expected {
        Expected::Absent => 0,
        Expected::At(revision) => of_a_write(revision)?,
    };
    let mut compared = vec![(write.key, at)];
    if let Some(fence) = write.fence {
        compared.push((fence.key.as_str(), of_a_write(fence.revision)?));
    }
    Some(compared)
}

fn operation(write: &Write<'_>) -> TxnOp {
    match &write.change {
        Change::Put { value, lease } => {
            PutRequest::new(write.key, value.as_slice()).lease(lease.map_or(0, |lease| lease.0)).into()
        }
        Change::Delete => DeleteRequest::new(KeyRange::key(write.key)).into(),
    }
}

/// Keys that are no text are none of ours.
fn entry(kv: KeyValue) -> Option<Entry> {
    let revision = to_revision(kv.mod_revision);
    String::from_utf8(kv.key).ok().map(|key| Entry { key, value: kv.value, revision })
}

/// The first key that can come after this one.
fn key_after(kv: &KeyValue) -> Vec<u8> {
    [kv.key.as_slice(), b"\0"].concat()
}

/// etcd counts from 1, in 63 bits.
fn to_revision(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or_default())
}

fn to_etcd(revision: Revision) -> Option<i64> {
    i64::try_from(revision.0).ok()
}

/// A revision that can have written a key; to etcd, 0 would be the one of a key that is not there.
fn of_a_write(revision: Revision) -> Option<usize> {
    usize::try_from(to_etcd(revision)?).ok().filter(|revision| *revision > 0)
}

/// Rounded up: etcd counts seconds, and a lease must not end early.
fn whole_seconds(ttl: Duration) -> Duration {
    let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    Duration::from_secs(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_never_ends_early() {
        for (asked_ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (15_000, 15)] {
            assert_eq!(whole_seconds(Duration::from_millis(asked_ms)), Duration::from_secs(seconds), "{asked_ms} ms");
        }
    }

    #[test]
    fn only_a_revision_that_etcd_can_have_written_is_compared() {
        assert_eq!(of_a_write(Revision(7)), Some(7));
        assert_eq!(of_a_write(Revision(0)), None, "it would stand for a key that is not there");
        assert_eq!(of_a_write(Revision(u64::MAX)), None);
        assert_eq!(to_revision(-1), Revision(0));
    }

    #[test]
    fn the_next_page_begins_right_after_the_last_key() {
        let kv = KeyValue { key: b"/a".to_vec(), ..KeyValue::default() };
        let next = key_after(&kv);
        assert!(next.as_slice() > b"/a".as_slice() && next.as_slice() < b"/a!".as_slice());
    }
}
