//! What the edge counts.
//!
//! Invariant: the names, labels and help texts are those of `metrics.txt`, labels take few values that are known
//! here, and counting on the way of a request never looks a label up.

use entities::registry::layout::EnvelopeError;
use prometheus::core::Collector;
use prometheus::{Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::refusals::Refusal;
use crate::sync::StaleReason;
use crate::tcp::relay::{Outcome, copies};

/// Why a request failed at its target, and the value of the label `reason`.
const TARGET_FAULTS: [&str; 6] = ["resolve", "connect", "connect_timeout", "broken", "timeout", "forbidden"];

/// Why a request was tried once more, or was not although it might have been, and the value of the label `reason`.
const RETRIES: [&str; 4] = ["connect", "reused", "sent", "unpaid"];

/// How a probe ended, and the value of the label `outcome`.
const PROBES: [&str; 2] = ["failed", "ok"];

/// Why a registry value was skipped, and the value of the label `reason`.
const SKIP_REASONS: [&str; 3] = ["malformed", "unknown_schema", "other_key"];

/// How a relay ended, and the value of the label `reason`.
const RELAY_ENDS: [&str; 6] = ["finished", "idle", "half_open", "client", "target", "cut"];

/// Where bytes went, and the value of the label `direction`.
const DIRECTIONS: [&str; 2] = ["to_target", "to_client"];

/// Classes of answers. An answer that was never begun, because the client had gone, has the class `none`.
const CODE_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// All counters of one edge.
pub(crate) struct Metrics {
    registry: Registry,
    /// Circuits in the table.
    pub(crate) circuits: IntGauge,
    /// Circuits that cannot be served here.
    pub(crate) circuits_refused: IntGauge,
    /// Dynamic ports that listen.
    pub(crate) ports_open: IntGauge,
    /// Client connections.
    pub(crate) connections_open: IntGauge,
    /// Connections that became something else than HTTP.
    pub(crate) upgrades: IntCounter,
    /// Requests and connections that were cut because their circuit's drain time was over.
    pub(crate) drains_cut: IntCounter,
    /// Times that a target was taken out because it failed again and again.
    pub(crate) targets_out: IntCounter,
    /// Lists of the registry.
    pub(crate) relists: IntCounter,
    /// Changes that were applied.
    pub(crate) events_applied: IntCounter,
    /// Circuits that a change or a list touched.
    pub(crate) circuits_touched: IntCounter,
    /// The registry revision that is applied.
    pub(crate) applied_revision: IntGauge,
    /// Circuits that are served although the registry does not name them.
    pub(crate) circuits_held_back: IntGauge,
    /// How long ago a trusted registry was last followed; set when somebody asks.
    pub(crate) registry_confirmed_age: IntGauge,
    /// Times that the snapshot was written.
    pub(crate) snapshot_writes: IntCounter,
    /// Times that it could not be written.
    pub(crate) snapshot_errors: IntCounter,
    /// Memory that the process takes.
    pub(crate) resident_bytes: IntGauge,
    /// Memory that it may take.
    pub(crate) memory_ceiling_bytes: IntGauge,
    /// Whether new connections are turned away for want of memory.
    pub(crate) shedding: IntGauge,
    /// Size of the snapshot's file.
    pub(crate) snapshot_bytes: IntGauge,
    stale: [IntGauge; StaleReason::ALL.len()],
    requests: [IntCounter; 6],
    target_faults: [IntCounter; TARGET_FAULTS.len()],
    retries: [IntCounter; RETRIES.len()],
    probes: [IntCounter; PROBES.len()],
    skipped: [IntCounter; 3],
    refusals: [IntCounter; Refusal::WORDS.len()],
    relay_ends: [IntCounter; RELAY_ENDS.len()],
    relayed_bytes: [IntCounter; DIRECTIONS.len()],
    relay_copies: IntCounter,
}

/// Why a request is tried once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Retry {
    /// Nothing was sent: there was no connection.
    Connect,
    /// The target had closed a connection that was to be used again.
    Reused,
    /// It was sent, and the circuit allows to send it again.
    Sent,
    /// It might have been sent again, but the circuit's budget is spent.
    Unpaid,
}

/// What went wrong at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum TargetFault {
    /// Its name has no address.
    Resolve,
    /// It does not take connections.
    Connect,
    /// It does not answer the attempt to connect.
    ConnectTimeout,
    /// It broke off, or what it says is not HTTP.
    Broken,
    /// It did not answer in time.
    Timeout,
    /// The edge may not connect there.
    Forbidden,
}

/// What was wrong with a registry value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum SkipReason {
    /// It does not parse.
    Malformed,
    /// It was written by a program of another time.
    UnknownSchema,
    /// It is about another key than its name says.
    OtherKey,
}

// === impl TargetFault ===

impl TargetFault {
    /// The word in logs and labels.
    pub(crate) fn as_str(self) -> &'static str {
        TARGET_FAULTS.get(self as usize).copied().unwrap_or_default()
    }
}

// === impl SkipReason ===

impl SkipReason {
    /// Why a value with this error is skipped.
    pub(crate) fn of(error: &EnvelopeError) -> Self {
        match error {
            EnvelopeError::UnknownSchema(_) => Self::UnknownSchema,
            EnvelopeError::NotTheKey => Self::OtherKey,
            EnvelopeError::Malformed(_) | EnvelopeError::TooLarge(_) | EnvelopeError::Empty => Self::Malformed,
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Counters that stand at zero, in a registry of their own.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = vector(&registry, "requests_total", "Requests by class of the answer", "code_class")?;
        let target_faults = vector(&registry, "target_faults_total", "Attempts that failed at a target", "reason")?;
        let retries = vector(&registry, "retries_total", "Requests tried once more; unpaid ones were not", "reason")?;
        let probes = vector(&registry, "probes_total", "Probes of targets", "outcome")?;
        let skipped = vector(&registry, "registry_values_skipped_total", "Registry values not understood", "reason")?;
        let refusals = vector(&registry, "refusals_total", "What was turned away, by reason", "reason")?;
        let relay_ends =
            vector(&registry, "relay_ends_total", "Byte streams and tunnels that ended, by reason", "reason")?;
        let relayed_bytes = vector(&registry, "relayed_bytes_total", "Bytes of relays that have ended", "direction")?;
        let stale = IntGaugeVec::new(opts("stale", "Whether what is served is not confirmed, by reason"), &["reason"])?;
        let stale = registered(&registry, stale)?;
        Ok(Self {
            circuits: gauge(&registry, "circuits", "Circuits in the table")?,
            circuits_refused: gauge(&registry, "circuits_refused", "Circuits that cannot be served here")?,
            ports_open: gauge(&registry, "ports_open", "Dynamic ports that listen")?,
            connections_open: gauge(&registry, "connections_open", "Client connections")?,
            upgrades: counter(&registry, "upgrades_total", "Requests that became tunnels, such as WebSockets")?,
            targets_out: counter(&registry, "targets_out_total", "Times that a failing target was taken out")?,
            drains_cut: counter(&registry, "drains_cut_total", "Requests cut at the end of a drain time")?,
            relists: counter(&registry, "registry_relists_total", "Lists of the registry")?,
            events_applied: counter(&registry, "events_applied_total", "Registry changes applied")?,
            circuits_touched: counter(
                &registry,
                "circuits_touched_total",
                "Circuits opened, changed or closed by a change or a list",
            )?,
            applied_revision: gauge(&registry, "applied_revision", "Registry revision that is applied")?,
            circuits_held_back: gauge(&registry, "circuits_held_back", "Circuits that the registry stopped naming")?,
            registry_confirmed_age: gauge(
                &registry,
                "registry_confirmed_age_seconds",
                "How long ago a trusted registry was last followed",
            )?,
            snapshot_writes: counter(&registry, "snapshot_writes_total", "Times that the snapshot was written")?,
            snapshot_errors: counter(&registry, "snapshot_errors_total", "Times that it could not be written")?,
            resident_bytes: gauge(&registry, "resident_bytes", "Memory that the process takes")?,
            memory_ceiling_bytes: gauge(
                &registry,
                "memory_ceiling_bytes",
                "Memory that it may take; 0 for no ceiling",
            )?,
            shedding: gauge(&registry, "shedding", "Whether new connections are turned away for want of memory")?,
            snapshot_bytes: gauge(&registry, "snapshot_bytes", "Size of the snapshot")?,
            stale: StaleReason::ALL.map(|reason| stale.with_label_values(&[reason.as_str()])),
            requests: CODE_CLASSES.map(|class| requests.with_label_values(&[class])),
            retries: RETRIES.map(|reason| retries.with_label_values(&[reason])),
            probes: PROBES.map(|outcome| probes.with_label_values(&[outcome])),
            target_faults: TARGET_FAULTS.map(|reason| target_faults.with_label_values(&[reason])),
            skipped: SKIP_REASONS.map(|reason| skipped.with_label_values(&[reason])),
            refusals: Refusal::WORDS.map(|reason| refusals.with_label_values(&[reason])),
            relay_ends: RELAY_ENDS.map(|reason| relay_ends.with_label_values(&[reason])),
            relayed_bytes: DIRECTIONS.map(|direction| relayed_bytes.with_label_values(&[direction])),
            relay_copies: counter(&registry, "relay_copies_total", "Times that bytes were copied for want of a pipe")?,
            registry,
        })
    }

    /// A request is over; `status` is that of the answer, if one was begun.
    pub(crate) fn count_request(&self, status: Option<u16>) {
        let class = usize::from(status.unwrap_or(0) / 100);
        if let Some(counter) = self.requests.get(class).or(self.requests.first()) {
            counter.inc();
        }
    }

    /// A target failed.
    pub(crate) fn count_target_fault(&self, fault: TargetFault) {
        if let Some(counter) = self.target_faults.get(fault as usize) {
            counter.inc();
        }
    }

    /// A request is tried once more, or would have been.
    pub(crate) fn count_retry(&self, retry: Retry) {
        if let Some(counter) = self.retries.get(retry as usize) {
            counter.inc();
        }
    }

    /// A probe is over.
    pub(crate) fn count_probe(&self, is_success: bool) {
        if let Some(counter) = self.probes.get(usize::from(is_success)) {
            counter.inc();
        }
    }

    /// A registry value was skipped.
    pub(crate) fn count_skipped(&self, reason: SkipReason) {
        if let Some(counter) = self.skipped.get(reason as usize) {
            counter.inc();
        }
    }

    /// Something was turned away.
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        if let Some(counter) = self.refusals.get(refusal as usize) {
            counter.inc();
        }
    }

    /// A relay has ended; without an outcome it was cut.
    pub(crate) fn count_relay(&self, outcome: Option<&Outcome>) {
        let reason = outcome.map_or("cut", |outcome| outcome.end.as_str());
        for (counter, _) in self.relay_ends.iter().zip(RELAY_ENDS).filter(|(_, word)| *word == reason) {
            counter.inc();
        }
        let carried = outcome.map_or([0, 0], |outcome| [outcome.to_target, outcome.to_client]);
        for (counter, bytes) in self.relayed_bytes.iter().zip(carried) {
            counter.inc_by(bytes);
        }
    }

    /// What is served is not confirmed, for this reason, or it is.
    pub(crate) fn set_stale(&self, reason: Option<StaleReason>) {
        for (gauge, of) in self.stale.iter().zip(StaleReason::ALL) {
            gauge.set(i64::from(reason == Some(of)));
        }
    }

    /// Everything in the Prometheus text format.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        self.relay_copies.inc_by(copies().saturating_sub(self.relay_copies.get()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("appproxy").subsystem("edge")
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    registered(registry, IntCounter::with_opts(opts(name, help))?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    registered(registry, IntGauge::with_opts(opts(name, help))?)
}

fn vector(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    registered(registry, IntCounterVec::new(opts(name, help), &[label])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `metrics.txt` is a contract with dashboards and alerts.
    #[test]
    fn the_metrics_are_those_of_the_committed_list() {
        let metrics = Metrics::new().expect("names are valid");
        let mut lines: Vec<String> = metrics.registry.gather().iter().map(line).collect();
        lines.sort();
        let committed: Vec<&str> =
            include_str!("../metrics.txt").lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, committed, "metrics.txt should be:\n{}", lines.join("\n"));
    }

    fn line(family: &prometheus::proto::MetricFamily) -> String {
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        let mut labels: Vec<String> = Vec::new();
        for metric in family.get_metric() {
            for pair in metric.get_label() {
                labels.push(format!("{}={}", pair.name(), pair.value()));
            }
        }
        labels.sort();
        format!("{} {kind} [{}] {}", family.name(), labels.join(" "), family.help())
    }

    #[test]
    fn a_request_counts_by_the_class_of_its_answer() {
        let metrics = Metrics::new().expect("names are valid");
        for status in [None, Some(101), Some(204), Some(503), Some(599), Some(999)] {
            metrics.count_request(status);
        }
        let counts = CODE_CLASSES.map(|class| {
            (class, metrics.requests.iter().zip(CODE_CLASSES).find(|(_, name)| *name == class).expect("listed").0.get())
        });
        assert_eq!(counts, [("none", 2), ("1xx", 1), ("2xx", 1), ("3xx", 0), ("4xx", 0), ("5xx", 2)]);
    }
}
