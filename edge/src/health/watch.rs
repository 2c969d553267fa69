//! The states of addresses, and who watches them.
//!
//! Invariant: the flags that a choice reads say what the locked states say; they are written under the same lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use entities::health_check::HealthCheck;
use entities::ids::CircuitId;
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::time::Instant;

use super::check::CheckState;
use super::outlier::Outlier;
use super::schedule::Job;
use super::{Address, HealthState, Question};
use crate::address::Resolution;

/// One target of one circuit under watch; dropping it ends that.
pub(crate) struct Watch {
    number: u64,
    circuit: CircuitId,
    address: Arc<AddressHealth>,
    checked: Option<Arc<Checked>>,
}

/// What is known about one address, whichever circuits have it.
pub(super) struct AddressHealth {
    pub(super) address: Address,
    /// What its name means, for probes.
    pub(super) resolution: Resolution,
    outlier: Mutex<Outlier>,
    /// Whether something has failed since the last success.
    is_suspect: AtomicBool,
    is_out: AtomicBool,
    checks: Mutex<HashMap<Question, Weak<Checked>>>,
    watches: Mutex<HashMap<u64, Weak<Watch>>>,
    shared: Weak<HealthState>,
}

/// One check of one address.
pub(super) struct Checked {
    pub(super) question: Question,
    pub(super) address: Arc<AddressHealth>,
    state: Mutex<CheckState>,
    is_down: AtomicBool,
}

/// Tells watches apart.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Edges that lost the same target do not come back to it all at once.
fn jitter() -> f64 {
    rand::rng().random_range(0.8..1.2)
}

// === impl Watch ===

impl Watch {
    pub(super) fn begin(circuit: CircuitId, address: Arc<AddressHealth>, checked: Option<Arc<Checked>>) -> Arc<Self> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let watch = Arc::new(Self { number, circuit, address, checked });
        watch.address.watches.lock().insert(number, Arc::downgrade(&watch));
        if watch.healthy().is_some() {
            watch.report();
        }
        watch
    }

    /// Whether it is watched by this check.
    pub(crate) fn has_check(&self, check: Option<&HealthCheck>) -> bool {
        self.checked.as_ref().map(|checked| checked.check()) == check
    }

    /// Whether requests should go there.
    pub(crate) fn is_usable(&self) -> bool {
        let is_down = |checked: &Arc<Checked>| checked.is_down.load(Ordering::Relaxed);
        !self.address.is_out.load(Ordering::Relaxed) && !self.checked.as_ref().is_some_and(is_down)
    }

    /// Whether the target works, if that is known.
    pub(crate) fn healthy(&self) -> Option<bool> {
        let outlier = self.address.outlier.lock();
        if outlier.is_out() {
            return Some(false);
        }
        match &self.checked {
            Some(checked) => checked.state.lock().is_up(),
            None => outlier.has_recovered().then_some(true),
        }
    }

    /// Connecting to it, or a request there, has failed.
    pub(crate) fn failed(&self) {
        self.address.failed();
    }

    /// It has answered.
    pub(crate) fn succeeded(&self) {
        if self.address.is_suspect.load(Ordering::Relaxed) {
            self.address.succeeded();
        }
    }

    /// The circuit watches it in another way from now on, or not any more.
    pub(crate) fn end(&self) {
        if self.healthy().is_some()
            && let Some(shared) = self.address.shared.upgrade()
        {
            shared.reports.push(self.circuit, &self.address.address, None);
        }
    }

    fn report(&self) {
        if let Some(shared) = self.address.shared.upgrade() {
            shared.reports.push(self.circuit, &self.address.address, self.healthy());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.address.watches.lock().remove(&self.number);
    }
}

// === impl AddressHealth ===

impl AddressHealth {
    pub(super) fn new(address: Address, shared: Weak<HealthState>) -> Self {
        Self {
            resolution: Resolution::of(&address.host, address.port),
            address,
            outlier: Mutex::default(),
            is_suspect: AtomicBool::new(false),
            is_out: AtomicBool::new(false),
            checks: Mutex::default(),
            watches: Mutex::default(),
            shared,
        }
    }

    /// The check that asks `question`, and whether it is new.
    pub(super) fn checked(self: &Arc<Self>, question: Question) -> (Arc<Checked>, bool) {
        let mut checks = self.checks.lock();
        if let Some(known) = checks.get(&question).and_then(Weak::upgrade) {
            return (known, false);
        }
        let new = Arc::new(Checked {
            question: question.clone(),
            address: Arc::clone(self),
            state: Mutex::new(CheckState::new(Instant::now())),
            is_down: AtomicBool::new(false),
        });
        checks.insert(question, Arc::downgrade(&new));
        (new, true)
    }

    /// Marks for the coordinator what every watching circuit knows, if it is anything.
    pub(super) fn report(&self) {
        // Not under the lock: the last holder of a watch may be this one, and its end takes the lock too.
        let watches: Vec<_> = self.watches.lock().values().filter_map(Weak::upgrade).collect();
        watches.iter().filter(|watch| watch.healthy().is_some()).for_each(|watch| watch.report());
    }

    fn failed(self: &Arc<Self>) {
        let probe_at = self.learn(|outlier, now| outlier.failed(now, jitter()));
        let (Some(at), Some(shared)) = (probe_at, self.shared.upgrade()) else { return };
        shared.metrics.targets_out.inc();
        tracing::warn!(target = %self.address, fault = "target", "target is taken out: it fails again and again");
        shared.schedule.add(at, Job::Recover(Arc::downgrade(self)));
        self.report();
    }

    fn succeeded(&self) {
        self.come_back_if(Outlier::succeeded);
    }

    /// A probe has reached it.
    pub(super) fn probe_succeeded(&self) {
        self.come_back_if(Outlier::probe_succeeded);
    }

    /// A probe has not reached it; says when to try again.
    pub(super) fn probe_failed(&self) -> Instant {
        self.outlier.lock().probe_failed(Instant::now(), jitter())
    }

    pub(super) fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    /// Takes note of something; the flags follow.
    fn learn<T>(&self, news: impl FnOnce(&mut Outlier, Instant) -> T) -> T {
        let mut outlier = self.outlier.lock();
        let learnt = news(&mut outlier, Instant::now());
        self.is_suspect.store(!outlier.is_clean(), Ordering::Relaxed);
        self.is_out.store(outlier.is_out(), Ordering::Relaxed);
        learnt
    }

    fn come_back_if(&self, news: impl FnOnce(&mut Outlier, Instant) -> bool) {
        if self.learn(news) {
            tracing::info!(target = %self.address, "target works again");
            self.report();
        }
    }
}

impl Drop for AddressHealth {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut addresses = shared.addresses.lock();
            // Somebody may have begun to watch the address anew meanwhile.
            if addresses.get(&self.address).is_some_and(|known| known.strong_count() == 0) {
                addresses.remove(&self.address);
            }
        }
    }
}

// === impl Checked ===

impl Checked {
    pub(super) fn check(&self) -> &HealthCheck {
        &self.question.check
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs(self.check().interval_s.into())
    }

    /// Takes the outcome of a probe.
    pub(super) fn record(&self, is_success: bool) {
        let (is_news, is_up) = {
            let mut state = self.state.lock();
            let is_news = state.record(self.check(), is_success, Instant::now());
            self.is_down.store(state.is_up() == Some(false), Ordering::Relaxed);
            (is_news, state.is_up())
        };
        if is_success {
            self.address.probe_succeeded();
        }
        if is_news {
            match is_up {
                Some(false) => {
                    tracing::warn!(target = %self.address.address, fault = "target", "target is down: its check fails");
                }
                _ => tracing::info!(target = %self.address.address, "target is up"),
            }
            self.address.report();
        }
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        let mut checks = self.address.checks.lock();
        if checks.get(&self.question).is_some_and(|known| known.strong_count() == 0) {
            checks.remove(&self.question);
        }
    }
}
