//! How far each worker is: asks `/v2/sync` and lets waiters go when everything that they wait for is served.
//!
//! Invariant: at most one request is under way to a worker. It is not replaced by a later one; its answer releases
//! every waiter at or below `applied`. A worker that is behind for longer than a waiter waits becomes `LAGGING` and
//! holds nobody up until it has caught up.

mod ask;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use entities::ids::{AuthorityName, BootId, CircuitKey, Epoch, Generation, Revision, WorkerId};
use entities::worker::{RefusalCode, SyncReport, WorkerStatus};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub use ask::{AskError, Asker};

/// What a waiter waits for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose workers must have it.
    pub authority: AuthorityName,
    /// The revision that they must have applied.
    pub revision: Revision,
    /// The circuit, to notice that a worker refuses it.
    pub key: CircuitKey,
    /// Its generation.
    pub generation: Generation,
}

/// How a wait ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Workers that have it.
    pub workers: Vec<WorkerId>,
    /// Workers that should have it and did not in time.
    pub pending: Vec<WorkerId>,
    /// The first refusal.
    pub refused: Option<(WorkerId, RefusalCode)>,
}

impl Applied {
    /// Whether every worker that counts has it, and at least one does.
    pub fn is_served(&self) -> bool {
        self.pending.is_empty() && !self.workers.is_empty() && self.refused.is_none()
    }
}

/// One worker as it is followed.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Its name.
    pub id: WorkerId,
    /// What it serves.
    pub authority: AuthorityName,
    /// Which run of it.
    pub boot_id: BootId,
    /// `ALIVE`, `LAGGING` or `LOST`.
    pub status: WorkerStatus,
    /// What it said last.
    pub report: Option<SyncReport>,
    /// When it answered last.
    pub answered_at: Option<Instant>,
}

/// Follows all workers.
#[derive(Debug, Clone)]
pub struct Acks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts changes of `state`, so that waiters look again.
    changes: watch::Sender<u64>,
    /// Counts changes of a worker's status, so that the store can follow.
    status_changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    epoch: Option<Epoch>,
    workers: HashMap<WorkerId, Entry>,
}

#[derive(Debug)]
struct Entry {
    worker: Followed,
    /// The revision up to which somebody waits.
    demand: watch::Sender<Revision>,
    /// A lost worker is not asked.
    poller: Option<AbortHandle>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(poller) = &self.poller {
            poller.abort();
        }
    }
}

impl Default for Acks {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Acks ===

impl Acks {
    /// Follows nobody yet.
    pub fn new() -> Self {
        let shared =
            Shared { state: Mutex::default(), changes: watch::channel(0).0, status_changes: watch::channel(0).0 };
        Self { shared: Arc::new(shared) }
    }

    /// Changes whenever a worker's status does.
    pub fn status_changes(&self) -> watch::Receiver<u64> {
        self.shared.status_changes.subscribe()
    }

    /// The registry's life in which revisions count from now on; `None` while nobody knows.
    pub fn set_epoch(&self, epoch: Option<Epoch>) {
        self.shared.update(|state| state.epoch = epoch);
    }

    /// The registry's life in which revisions count.
    pub fn epoch(&self) -> Option<Epoch> {
        self.shared.epoch()
    }

    /// The highest revision of a life of the registry that a worker says it has seen.
    pub fn highest_applied(&self, epoch: Epoch) -> Option<Revision> {
        let state = self.shared.lock();
        let reports = state.workers.values().filter_map(|entry| entry.worker.report.as_ref());
        reports.filter(|report| report.epoch == Some(epoch)).map(|report| report.applied).max()
    }

    /// Starts to follow a run of a worker; it is `LAGGING` until it has said how far it is.
    pub fn follow(&self, id: WorkerId, authority: AuthorityName, boot_id: BootId, asker: Asker) {
        let (demand, demanded) = watch::channel(Revision::default());
        let worker = Followed::new(id.clone(), authority, boot_id, WorkerStatus::Lagging);
        let changes = self.shared.changes.subscribe();
        let poller =
            tokio::spawn(poll(Arc::downgrade(&self.shared), changes, id.clone(), asker, demanded)).abort_handle();
        self.shared.update(|state| {
            state.workers.insert(id, Entry { worker, demand, poller: Some(poller) });
        });
    }

    /// Remembers a lost worker: nobody waits for it, but it may still serve what it has not been told of.
    pub fn lose(&self, id: WorkerId, authority: AuthorityName, boot_id: BootId) {
        let worker = Followed::new(id.clone(), authority, boot_id, WorkerStatus::Lost);
        let (demand, _) = watch::channel(Revision::default());
        self.shared.update(|state| {
            state.workers.insert(id, Entry { worker, demand, poller: None });
        });
    }

    /// Forgets a worker that has left.
    pub fn forget(&self, id: &WorkerId) {
        self.shared.update(|state| {
            state.workers.remove(id);
        });
    }

    /// Every worker that is known.
    pub fn workers(&self) -> Vec<Followed> {
        self.shared.lock().workers.values().map(|entry| entry.worker.clone()).collect()
    }

    /// Whether every worker of an authority, laggards and lost ones included, has applied `revision`.
    pub fn have_all_applied(&self, authority: &AuthorityName, revision: Revision) -> bool {
        let state = self.shared.lock();
        let Some(epoch) = state.epoch else { return false };
        state
            .workers
            .values()
            .filter(|entry| entry.worker.authority == *authority)
            .all(|entry| entry.worker.has_applied(epoch, revision))
    }

    /// Waits until every `ALIVE` worker of the authority, and at least one, has applied what is wanted; or until one
    /// refuses it; or for `patience`. Judging those who are behind then is left to the caller, who knows whether the
    /// time was fair.
    pub async fn wait(&self, wanted: &Wanted, patience: Duration) -> Applied {
        let deadline = Instant::now() + patience;
        let mut changes = self.shared.changes.subscribe();
        self.demand(&wanted.authority, wanted.revision);
        loop {
            changes.borrow_and_update();
            let applied = self.look(wanted);
            if applied.refused.is_some() || applied.is_served() {
                return applied;
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return self.with_laggards(applied, &wanted.authority);
            }
        }
    }

    fn demand(&self, authority: &AuthorityName, revision: Revision) {
        let state = self.shared.lock();
        for entry in state.workers.values().filter(|entry| entry.worker.authority == *authority) {
            entry.demand.send_if_modified(|demanded| {
                let is_higher = revision > *demanded;
                *demanded = revision.max(*demanded);
                is_higher
            });
        }
    }

    /// How far the workers are with it, without waiting.
    pub fn look(&self, wanted: &Wanted) -> Applied {
        let state = self.shared.lock();
        let mut applied = Applied::default();
        let Some(epoch) = state.epoch else { return applied };
        for worker in state.workers.values().map(|entry| &entry.worker) {
            if worker.authority != wanted.authority || !worker.is_live() {
                continue;
            }
            let refusal = worker.refusal_of(&wanted.key, wanted.generation);
            if let (Some(code), None) = (refusal, &applied.refused) {
                applied.refused = Some((worker.id.clone(), code));
            }
            if worker.has_applied(epoch, wanted.revision) {
                if refusal.is_none() {
                    applied.workers.push(worker.id.clone());
                }
            } else if worker.status == WorkerStatus::Alive {
                applied.pending.push(worker.id.clone());
            }
        }
        applied.workers.sort_unstable();
        applied.pending.sort_unstable();
        applied
    }

    /// When nobody has it, everybody is awaited.
    fn with_laggards(&self, mut applied: Applied, authority: &AuthorityName) -> Applied {
        if applied.workers.is_empty() && applied.pending.is_empty() {
            let of_authority = self.workers().into_iter().filter(|worker| worker.authority == *authority);
            applied.pending = of_authority.map(|worker| worker.id).collect();
            applied.pending.sort_unstable();
        }
        applied
    }

    /// Lets the workers that a wait ran out for hold nobody up until they have caught up.
    pub fn mark_late(&self, ended: &Applied) {
        if ended.refused.is_some() || ended.is_served() {
            return;
        }
        self.shared.update(|state| {
            for id in &ended.pending {
                if let Some(entry) = state.workers.get_mut(id).filter(|entry| entry.worker.is_live()) {
                    self.shared.set_status(&mut entry.worker, WorkerStatus::Lagging);
                }
            }
        });
    }
}

// === impl Followed ===

impl Followed {
    fn new(id: WorkerId, authority: AuthorityName, boot_id: BootId, status: WorkerStatus) -> Self {
        Self { id, authority, boot_id, status, report: None, answered_at: None }
    }

    /// Whether it can serve.
    pub fn is_live(&self) -> bool {
        self.status != WorkerStatus::Lost
    }

    fn has_applied(&self, epoch: Epoch, revision: Revision) -> bool {
        self.report.as_ref().is_some_and(|report| report.has_applied(epoch, revision))
    }

    fn refusal_of(&self, key: &CircuitKey, generation: Generation) -> Option<RefusalCode> {
        let report = self.report.as_ref()?;
        let is_it = |refusal: &&entities::worker::Refusal| refusal.key == *key && refusal.generation == generation;
        report.refused.iter().find(is_it).map(|refusal| refusal.code)
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No change below can panic halfway, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    fn set_status(&self, worker: &mut Followed, status: WorkerStatus) {
        if worker.status != status {
            worker.status = status;
            tracing::info!(worker = %worker.id, status = status.as_str(), "worker changed its status");
            self.status_changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Takes an answer; tells whether the worker is behind.
    fn note_answer(&self, id: &WorkerId, report: SyncReport, demanded: Revision) -> bool {
        self.update(|state| {
            let epoch = state.epoch;
            let Some(entry) = state.workers.get_mut(id) else { return true };
            // Another run answers at this address: it has registered or will, and is then followed itself.
            let is_this_run = report.boot_id == entry.worker.boot_id && report.worker_id == *id;
            let is_current = epoch.is_some_and(|epoch| report.has_applied(epoch, demanded));
            if is_this_run {
                entry.worker.answered_at = Some(Instant::now());
                entry.worker.report = Some(report);
                if is_current {
                    self.set_status(&mut entry.worker, WorkerStatus::Alive);
                }
            } else {
                entry.worker.report = None;
                self.set_status(&mut entry.worker, WorkerStatus::Lagging);
            }
            !(is_this_run && is_current)
        })
    }

    fn note_silence(&self, id: &WorkerId) {
        self.update(|state| {
            if let Some(entry) = state.workers.get_mut(id) {
                self.set_status(&mut entry.worker, WorkerStatus::Lagging);
            }
        });
    }

    fn epoch(&self) -> Option<Epoch> {
        self.lock().epoch
    }
}

/// How long the worker holds a question that it cannot answer with yes yet.
const HOLD: Duration = Duration::from_secs(2);

/// How often a worker is asked of whom nothing is wanted, to see that it is there and what it refuses.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// Unanswered questions after which a worker is `LAGGING`.
const MAX_SILENCES: u32 = 3;

/// The longest pause between questions to a worker that does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Asks one worker again and again, for as long as somebody holds the [`Acks`].
async fn poll(
    acks: Weak<Shared>,
    mut changes: watch::Receiver<u64>,
    id: WorkerId,
    asker: Asker,
    mut demanded: watch::Receiver<Revision>,
) {
    let mut silences = 0u32;
    loop {
        let Some(epoch) = acks.upgrade().map(|shared| shared.epoch()) else { return };
        let Some(epoch) = epoch else {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        };
        let revision = *demanded.borrow_and_update();
        let answer = asker.ask(epoch, revision, HOLD).await;
        let Some(shared) = acks.upgrade() else { return };
        match answer {
            Ok(report) => {
                silences = 0;
                let is_behind = shared.note_answer(&id, report, revision);
                drop(shared);
                if is_behind {
                    // An answer that is not yes came after the hold, or at once from another run or epoch.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                } else {
                    let _ = tokio::time::timeout(IDLE_INTERVAL, demanded.changed()).await;
                }
            }
            Err(error) => {
                silences = silences.saturating_add(1);
                tracing::warn!(worker = %id, %error, silences, "worker did not say how far it is");
                if silences >= MAX_SILENCES {
                    shared.note_silence(&id);
                }
                drop(shared);
                let pause = Duration::from_millis(50).saturating_mul(2u32.saturating_pow(silences.min(6)));
                tokio::time::sleep(pause.min(MAX_PAUSE)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::ports::DeadPort;
    use testkit::wait::wait_until;

    use super::*;
    use crate::keys::{ApiKey, ApiKeys, Scope};

    #[tokio::test]
    async fn nobody_is_asked_any_more_when_the_last_holder_has_gone() {
        let port = DeadPort::hold();
        let acks = Acks::new();
        acks.set_epoch(Some(Epoch::random()));
        let keys = Arc::new(ApiKeys::new(vec![ApiKey::new("key", Scope::Worker { authorities: Vec::new() })]));
        let authority: AuthorityName = "main".parse().expect("valid");
        let url = format!("http://127.0.0.1:{}", port.port());
        let asker = Asker::new(reqwest::Client::new(), &url, keys, authority.clone());
        acks.follow("w1".parse().expect("valid"), authority, BootId::random(), asker);
        let shared = Arc::downgrade(&acks.shared);
        drop(acks);
        wait_until("the end of the poller", async || shared.strong_count() == 0).await;
    }
}
