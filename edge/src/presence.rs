//! The edge's own key in the registry: it is there as long as the edge is, and a little longer.
//!
//! Invariant: nothing here holds up traffic. The key says what this run of the edge is, or the edge keeps trying; it
//! never takes the place of another run that is alive.

use std::sync::Arc;
use std::time::Duration;

use entities::ids::BootId;
use entities::registry::layout::Layout;
use entities::registry::{Expected, LeaseId, Registry, RegistryError, Swap};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::config::Config;

/// How long the key outlives an edge that dies.
const LEASE_TTL: Duration = Duration::from_secs(15);

/// How long one question to the registry may take: two may fail within the life of a lease.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long leaving may hold up the end of the process.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The first wait after an error, and the longest one.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// Keeps the key.
#[derive(Clone)]
pub(crate) struct Presence {
    registry: Arc<dyn Registry>,
    key: String,
    boot_id: BootId,
    value: Vec<u8>,
    keep_alive_interval: Duration,
    lease: Arc<Mutex<Option<LeaseId>>>,
}

/// What the key says.
#[derive(Serialize)]
struct Card<'a> {
    worker_id: &'a str,
    boot_id: BootId,
    authority: &'a str,
    api_url: &'a str,
    version: &'a str,
}

/// The part of it that tells runs apart.
#[derive(Deserialize)]
struct Run {
    boot_id: BootId,
}

/// Why the key is not there. Every case is tried again.
#[derive(Debug, thiserror::Error)]
enum PresenceError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the registry does not answer in time")]
    Timeout,
    #[error("the key was written by somebody else meanwhile")]
    Conflict,
    #[error("another live process has this worker id, its boot id is {0}")]
    OtherRun(BootId),
    #[error("the key is gone")]
    Gone,
}

// === impl Presence ===

impl Presence {
    /// Speaks for the edge that `config` describes.
    pub(crate) fn new(config: &Config, registry: Arc<dyn Registry>, layout: &Layout) -> Self {
        let card = Card {
            worker_id: config.worker_id.as_str(),
            boot_id: config.boot_id,
            authority: config.authority.name.as_str(),
            api_url: &config.api_url,
            version: env!("CARGO_PKG_VERSION"),
        };
        Self {
            registry,
            key: layout.worker(&config.worker_id),
            boot_id: config.boot_id,
            value: serde_json::json!(card).to_string().into_bytes(),
            keep_alive_interval: config.keep_alive_interval,
            lease: Arc::default(),
        }
    }

    /// Keeps the key for ever.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let ended = match self.appear().await {
                Ok(lease) => {
                    tracing::debug!(key = self.key, "the worker's key is in the registry");
                    backoff.reset();
                    self.stay(lease).await
                }
                Err(error) => error,
            };
            match ended {
                PresenceError::OtherRun(_) => {
                    tracing::error!(key = self.key, error = %ended, "cannot write the worker's key")
                }
                error => tracing::warn!(key = self.key, %error, "the worker's key is not kept"),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Takes the key away. If that is not heard, it goes with its lease.
    pub(crate) async fn leave(&self) {
        let lease = self.lease.lock().take();
        if let Some(lease) = lease {
            let revoked = tokio::time::timeout(LEAVE_TIMEOUT, self.registry.revoke_lease(lease)).await;
            if !matches!(revoked, Ok(Ok(()))) {
                tracing::warn!(key = self.key, "the worker's key stays until its lease ends");
            }
        }
    }

    /// Writes the key under a new lease.
    async fn appear(&self) -> Result<LeaseId, PresenceError> {
        let expected = match in_time(self.registry.get(&self.key)).await?.0 {
            None => Expected::Absent,
            Some(entry) => {
                let revision = entry.revision;
                match serde_json::from_slice::<Run>(&entry.value) {
                    Ok(run) if run.boot_id != self.boot_id => return Err(PresenceError::OtherRun(run.boot_id)),
                    // What cannot be read is nobody's.
                    Ok(_) | Err(_) => Expected::At(revision),
                }
            }
        };
        let lease = in_time(self.registry.grant_lease(LEASE_TTL)).await?;
        *self.lease.lock() = Some(lease);
        match in_time(self.registry.put(&self.key, expected, self.value.clone(), Some(lease))).await? {
            Swap::Done(_) => Ok(lease),
            Swap::Conflict => Err(PresenceError::Conflict),
        }
    }

    /// Keeps the lease alive until that fails or the key is gone.
    async fn stay(&self, lease: LeaseId) -> PresenceError {
        loop {
            tokio::time::sleep(self.keep_alive_interval).await;
            if let Err(error) = in_time(self.registry.keep_alive(lease)).await {
                return error;
            }
            match in_time(self.registry.get(&self.key)).await {
                Ok((Some(entry), _)) if entry.value == self.value => {}
                Ok(_) => return PresenceError::Gone,
                Err(error) => return error,
            }
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, RegistryError>>) -> Result<T, PresenceError> {
    Ok(tokio::time::timeout(CALL_TIMEOUT, answer).await.map_err(|_| PresenceError::Timeout)??)
}
