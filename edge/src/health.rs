//! Which targets work: what requests meet, and what probes find out.
//!
//! There is one state for each address, shared by all circuits that have a target there; circuits that ask for the same
//! check share its probes too. A circuit without a check causes no probe but one: whether a target that was taken out
//! works again.
//!
//! Invariant: a state lives as long as a circuit watches it, and every change of what is known about a target is marked for
//! the coordinator before anybody can choose by it again.

mod check;
mod outlier;
mod probe;
mod reports;
mod schedule;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use entities::circuit::Backend;
use entities::health_check::HealthCheck;
use entities::ids::{CircuitId, Port};
use entities::target::{Target, TargetHost};
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::time::Instant;

use crate::egress::Egress;
use crate::metrics::{Counter, CounterOf, metrics};
use crate::words::words;
pub(crate) use reports::Reports;
use schedule::{Job, Schedule};
pub(crate) use watch::Watch;
use watch::{AddressHealth, Checked};

metrics! {
    /// What is counted of probes and of targets that fail.
    pub(crate) struct HealthMetrics {
        probes: CounterOf<ProbeOutcome> = ("probes_total", "Probes of targets"),
        targets_out: Counter = ("targets_out_total", "Times that a failing target was taken out"),
    }
}

words! {
    /// How a probe ended.
    pub(crate) enum ProbeOutcome in "outcome" {
        /// The target did not answer as its check expects.
        Failed = "failed",
        /// The target works.
        Ok = "ok",
    }
}

/// Where a target is, whichever circuits have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: TargetHost,
    pub(crate) port: Port,
}

/// What one check asks of an address; circuits that ask the same share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    check: HealthCheck,
    /// Whether HTTP probes speak HTTP/2.
    is_http2: bool,
}

/// The health of all targets of an edge.
#[derive(Clone)]
pub(crate) struct Health {
    shared: Arc<HealthState>,
}

struct HealthState {
    addresses: Mutex<HashMap<Address, Weak<AddressHealth>>>,
    schedule: Schedule,
    reports: Reports,
    egress: Arc<Egress>,
    metrics: Arc<HealthMetrics>,
}

// === impl Address ===

impl Address {
    /// The address of `target`.
    pub(crate) fn of(target: &Target) -> Self {
        Self { host: target.host.clone(), port: target.port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.as_str().contains(':') {
            write!(formatter, "[{}]:{}", self.host.as_str(), self.port)
        } else {
            write!(formatter, "{}:{}", self.host.as_str(), self.port)
        }
    }
}

// === impl Health ===

impl Health {
    /// Nothing is known yet.
    pub(crate) fn new(egress: Arc<Egress>, metrics: Arc<HealthMetrics>) -> Self {
        let shared = HealthState {
            addresses: Mutex::default(),
            schedule: Schedule::default(),
            reports: Reports::default(),
            egress,
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Watches `target` for a circuit.
    pub(crate) fn watch(
        &self,
        circuit: CircuitId,
        target: &Target,
        check: Option<&HealthCheck>,
        backend: Backend,
    ) -> Arc<Watch> {
        let address = self.address(Address::of(target));
        let checked = check.map(|check| {
            let question = Question { check: check.clone(), is_http2: backend == Backend::H2 };
            self.checked(&address, question)
        });
        Watch::begin(circuit, address, checked)
    }

    /// What the coordinator is to be told.
    pub(crate) fn reports(&self) -> &Reports {
        &self.shared.reports
    }

    /// Everything that is known is to be told once more.
    pub(crate) fn report_all(&self) {
        let addresses: Vec<_> = self.shared.addresses.lock().values().filter_map(Weak::upgrade).collect();
        addresses.iter().for_each(|address| address.report());
    }

    /// Probes what is due, for ever.
    pub(crate) async fn run(self) {
        self.shared.schedule.run(&self.shared.egress, &self.shared.metrics).await;
    }

    fn address(&self, address: Address) -> Arc<AddressHealth> {
        let mut addresses = self.shared.addresses.lock();
        if let Some(known) = addresses.get(&address).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(AddressHealth::new(address.clone(), Arc::downgrade(&self.shared)));
        addresses.insert(address, Arc::downgrade(&new));
        new
    }

    fn checked(&self, address: &Arc<AddressHealth>, question: Question) -> Arc<Checked> {
        let (checked, is_new) = address.checked(question);
        if is_new {
            // Checks that begin together are spread over their interval, and stay so.
            let first =
                Duration::from_secs(checked.check().interval_s.into()).mul_f64(rand::rng().random_range(0.0..1.0));
            self.shared.schedule.add(Instant::now() + first, Job::Check(Arc::downgrade(&checked)));
        }
        checked
    }
}
