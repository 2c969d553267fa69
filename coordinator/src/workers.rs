//! The use cases of workers: register, heartbeat, leave, list; and the driver that notices the lost ones.
//!
//! Invariant: a worker id belongs to one live process. Another run takes it over only when the old one is silent or
//! answers as the new one.

mod liveness;

use std::sync::Arc;
use std::time::Duration;

use entities::authority::Authority;
use entities::clock::{SharedClock, from_unix_ms};
use entities::ids::{AuthorityName, BootId, WorkerId};
use entities::worker::{Heartbeat, Registration, WorkerStatus};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::acks::{Acks, Asker};
use crate::keys::ApiKeys;
use crate::metrics::Metrics;
use crate::store::{RegisterOutcome, Store, StoreError, StoredWorker};

/// Why a use case did not do it.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Another live process has this id.
    #[error("worker {0} is another live process")]
    IdInUse(WorkerId),
    /// Another live worker says something else about the authority.
    #[error("authority {} is served by another worker with other settings", .0.name)]
    AuthorityDiffers(Box<Authority>),
    /// No key that this worker could be asked with.
    #[error("no worker key is configured for authority {0}")]
    NoKey(AuthorityName),
    /// The worker would have to be asked in the open.
    #[error("api_url {0} is plain HTTP, and this coordinator requires TLS")]
    PlainHttp(String),
    /// That run of the worker is not registered.
    #[error("this run of the worker is not registered")]
    NotRegistered,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One worker for the API.
#[derive(Debug, Clone)]
pub struct WorkerInfo {
    /// As stored.
    pub stored: StoredWorker,
    /// The last sign of life.
    pub seen_at: OffsetDateTime,
}

/// The use cases.
#[derive(Clone)]
pub struct Workers {
    store: Store,
    acks: Acks,
    keys: Arc<ApiKeys>,
    client: reqwest::Client,
    clock: SharedClock,
    metrics: Metrics,
    lost_after: Duration,
    requires_tls: bool,
    /// Wakes reconcile when something may have to be published or judged anew.
    nudge: Arc<Notify>,
}

// === impl Workers ===

impl Workers {
    /// The use cases over their parts.
    #[expect(clippy::too_many_arguments, reason = "each part is another thing; a struct would only repeat them")]
    pub fn new(
        store: Store,
        acks: Acks,
        keys: Arc<ApiKeys>,
        client: reqwest::Client,
        clock: SharedClock,
        metrics: Metrics,
        lost_after: Duration,
        requires_tls: bool,
        nudge: Arc<Notify>,
    ) -> Self {
        Self { store, acks, keys, client, clock, metrics, lost_after, requires_tls, nudge }
    }

    /// Takes up a worker.
    pub async fn register(&self, id: &WorkerId, registration: &Registration) -> Result<(), WorkerError> {
        let authority = &registration.authority.name;
        let asker = self.asker(&registration.api_url, authority)?;
        let known = self.store.worker(id).await?;
        if let Some(known) = &known {
            self.check_takeover(known, registration.boot_id).await?;
        }
        match self.store.register_worker(id, registration, self.clock.now_ms()).await? {
            RegisterOutcome::AuthorityDiffers(known) => return Err(WorkerError::AuthorityDiffers(known)),
            RegisterOutcome::Registered { renamed } if renamed > 0 => {
                tracing::info!(%authority, renamed, "circuits follow the authority's new domain");
            }
            RegisterOutcome::Registered { .. } => {}
        }
        tracing::info!(worker = %id, %authority, api_url = %registration.api_url, version = %registration.version,
            "worker registered");
        self.acks.follow(id.clone(), authority.clone(), registration.boot_id, asker);
        if let Some(known) = known.filter(|known| known.authority != *authority) {
            self.note_absence(&known.authority).await?;
        }
        self.nudge.notify_one();
        Ok(())
    }

    /// Refuses a second live process under one id: whoever answers at the known address decides.
    async fn check_takeover(&self, known: &StoredWorker, boot_id: BootId) -> Result<(), WorkerError> {
        let known_boot = BootId(known.row.boot_id);
        if known_boot == boot_id || known.status == WorkerStatus::Lost {
            return Ok(());
        }
        let asker = match self.asker(&known.row.api_url, &known.authority) {
            // Whoever is there will not be asked again either.
            Err(WorkerError::PlainHttp(_)) => return Ok(()),
            asker => asker?,
        };
        match asker.ask_who().await {
            Ok(report) if report.boot_id == known_boot && report.worker_id == known.id => {
                Err(WorkerError::IdInUse(known.id.clone()))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Notes a sign of life.
    pub async fn heartbeat(&self, known: &StoredWorker, beat: &Heartbeat) -> Result<(), WorkerError> {
        if !self.store.record_heartbeat(&known.id, beat, self.clock.now_ms()).await? {
            return Err(WorkerError::NotRegistered);
        }
        if !beat.targets.is_empty() {
            tracing::debug!(worker = %known.id, targets = beat.targets.len(), "worker has news about targets");
            self.store.record_targets(&known.id, &known.authority, &beat.targets, self.clock.now_ms()).await?;
        }
        let is_followed = self.acks.workers().iter().any(|worker| worker.id == known.id && worker.is_live());
        if !is_followed {
            tracing::info!(worker = %known.id, "worker is back");
            self.store.set_worker_status(&known.id, WorkerStatus::Lagging).await?;
            self.follow(known)?;
        }
        Ok(())
    }

    /// Lets a worker go.
    pub async fn leave(&self, id: &WorkerId, boot_id: Option<BootId>) -> Result<bool, WorkerError> {
        let Some(known) = self.store.worker(id).await? else { return Ok(false) };
        let has_left = self.store.remove_worker(id, boot_id).await?;
        if has_left {
            tracing::info!(worker = %id, "worker left");
            self.acks.forget(id);
            self.note_absence(&known.authority).await?;
            // What it said about targets counts no more.
            self.nudge.notify_one();
        }
        Ok(has_left)
    }

    /// One worker.
    pub async fn find(&self, id: &WorkerId) -> Result<Option<StoredWorker>, WorkerError> {
        Ok(self.store.worker(id).await?)
    }

    /// Every worker.
    pub async fn list(&self) -> Result<Vec<WorkerInfo>, WorkerError> {
        let workers = self.store.workers().await?;
        let info = |stored: StoredWorker| WorkerInfo { seen_at: from_unix_ms(stored.row.seen_at_ms), stored };
        Ok(workers.into_iter().map(info).collect())
    }

    /// Follows the workers that were known before this process started.
    pub async fn follow_known(&self) -> Result<(), WorkerError> {
        for known in self.store.workers().await? {
            if known.status != WorkerStatus::Lost {
                match self.follow(&known) {
                    Ok(()) => continue,
                    // One worker whose key was taken away must not keep the coordinator from the others.
                    Err(error) => tracing::error!(worker = %known.id, %error, "a known worker cannot be asked"),
                }
            }
            self.acks.lose(known.id, known.authority, BootId(known.row.boot_id));
        }
        // A process that ended between losing a last worker and noting what that means left it to this one.
        for authority in self.store.authorities().await? {
            self.note_absence(&authority.name).await?;
        }
        Ok(())
    }

    /// Writes changed statuses and looks for lost workers, for ever.
    pub async fn run(self) {
        let started = Instant::now();
        let mut changes = self.acks.status_changes();
        let interval = (self.lost_after / 6).max(Duration::from_millis(10));
        loop {
            let has_changed = tokio::time::timeout(interval, changes.changed()).await.is_ok();
            changes.mark_unchanged();
            if let Err(error) = self.look(started).await {
                tracing::warn!(%error, "the workers could not be looked after; trying again");
            }
            if has_changed {
                self.nudge.notify_one();
            }
        }
    }

    async fn look(&self, started: Instant) -> Result<(), WorkerError> {
        let followed = self.acks.workers();
        let stored = self.store.workers().await?;
        let mut counts = [("ALIVE", 0), ("LAGGING", 0), ("DRAINING", 0), ("LOST", 0)];
        for known in stored {
            let live = followed.iter().find(|worker| worker.id == known.id);
            // A lost worker that has just come back is in the store first.
            let status = live.filter(|worker| worker.is_live()).map_or(known.status, |worker| worker.status);
            let silence = liveness::silence(
                self.clock.now_ms(),
                known.row.seen_at_ms,
                live.and_then(|worker| worker.answered_at).map(|at| at.elapsed()),
            );
            let status = liveness::judge(status, silence, started.elapsed(), self.lost_after);
            if status != known.status {
                if status == WorkerStatus::Lost {
                    tracing::warn!(worker = %known.id, silence_s = silence.as_secs(), "worker is lost");
                    self.acks.lose(known.id.clone(), known.authority.clone(), BootId(known.row.boot_id));
                    self.note_absence(&known.authority).await?;
                }
                // Last, so that whatever failed before is done again.
                self.store.set_worker_status(&known.id, status).await?;
            }
            if let Some((_, count)) = counts.iter_mut().find(|(word, _)| *word == status.as_str()) {
                *count += 1;
            }
        }
        for (word, count) in counts {
            self.metrics.workers.with_label_values(&[word]).set(count);
        }
        Ok(())
    }

    /// When the last worker of an authority has gone, nothing of it is served.
    async fn note_absence(&self, authority: &AuthorityName) -> Result<(), WorkerError> {
        let is_staffed = self.acks.workers().iter().any(|worker| worker.authority == *authority && worker.is_live());
        if !is_staffed {
            let count = self.store.mark_authority_unserved(authority, self.clock.now_ms()).await?;
            tracing::warn!(%authority, circuits = count, "no worker is left at the authority");
        }
        Ok(())
    }

    fn follow(&self, known: &StoredWorker) -> Result<(), WorkerError> {
        let asker = self.asker(&known.row.api_url, &known.authority)?;
        self.acks.follow(known.id.clone(), known.authority.clone(), BootId(known.row.boot_id), asker);
        Ok(())
    }

    fn asker(&self, api_url: &str, authority: &AuthorityName) -> Result<Asker, WorkerError> {
        let is_https = api_url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if self.requires_tls && !is_https {
            return Err(WorkerError::PlainHttp(api_url.to_owned()));
        }
        if self.keys.worker_secret(authority).is_none() {
            return Err(WorkerError::NoKey(authority.clone()));
        }
        Ok(Asker::new(self.client.clone(), api_url, Arc::clone(&self.keys), authority.clone()))
    }
}
