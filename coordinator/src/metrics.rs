//! What the coordinator counts.
//!
//! Invariant: no label takes a value from outside, so the number of series is fixed. `metrics.txt` lists them all.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::refusals::Refusal;

/// Handles to every metric. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests answered, by class of status.
    pub requests_total: IntCounterVec,
    /// What the API turned away, by reason.
    pub api_refusals_total: IntCounterVec,
    /// States of the file of API keys, by what became of them.
    pub key_files_total: IntCounterVec,
    /// Circuits opened.
    pub circuits_opened_total: IntCounter,
    /// Circuits closed.
    pub circuits_closed_total: IntCounter,
    /// Writes that the registry did not take.
    pub publish_failures_total: IntCounter,
    /// Ports that a worker could not bind.
    pub ports_refused_total: IntCounter,
    /// How long opening, changing and closing waited for the edges.
    pub apply_wait_seconds: Histogram,
    /// Workers by status.
    pub workers: IntGaugeVec,
    /// Differences between store and registry that were repaired.
    pub reconcile_repairs_total: IntCounter,
    /// Times that the registry turned out to have been emptied, restored or begun anew.
    pub registry_epochs_total: IntCounter,
    /// Rounds of reconcile that refused to delete as much as they were about to.
    pub reconcile_refusals_total: IntCounter,
}

// === impl Metrics ===

impl Metrics {
    /// Fresh metrics in a registry of their own, so that a program can hold several coordinators.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("appproxy_coordinator_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let requests_total = IntCounterVec::new(
            Opts::new("appproxy_coordinator_requests_total", "API requests answered, by class of status"),
            &["code_class"],
        )?;
        registry.register(Box::new(requests_total.clone()))?;
        for class in ["2xx", "3xx", "4xx", "5xx"] {
            requests_total.with_label_values(&[class]);
        }
        let api_refusals_total = IntCounterVec::new(
            Opts::new("appproxy_coordinator_api_refusals_total", "What the API turned away, by reason"),
            &["reason"],
        )?;
        registry.register(Box::new(api_refusals_total.clone()))?;
        for reason in Refusal::WORDS {
            api_refusals_total.with_label_values(&[reason]);
        }
        let key_files_total = IntCounterVec::new(
            Opts::new("appproxy_coordinator_key_files_total", "States of the file of API keys, by what became of them"),
            &["result"],
        )?;
        registry.register(Box::new(key_files_total.clone()))?;
        for result in ["accepted", "faulty", "unreadable"] {
            key_files_total.with_label_values(&[result]);
        }
        let apply_wait_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "appproxy_coordinator_apply_wait_seconds",
                "Time that opening, changing and closing waited for the edges",
            )
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]),
        )?;
        registry.register(Box::new(apply_wait_seconds.clone()))?;
        let workers = IntGaugeVec::new(Opts::new("appproxy_coordinator_workers", "Workers by status"), &["status"])?;
        registry.register(Box::new(workers.clone()))?;
        for status in ["ALIVE", "LAGGING", "DRAINING", "LOST"] {
            workers.with_label_values(&[status]);
        }
        Ok(Self {
            circuits_opened_total: counter("circuits_opened_total", "Circuits opened")?,
            circuits_closed_total: counter("circuits_closed_total", "Circuits closed")?,
            publish_failures_total: counter("publish_failures_total", "Writes that the registry did not take")?,
            ports_refused_total: counter("ports_refused_total", "Ports that a worker could not bind")?,
            reconcile_repairs_total: counter(
                "reconcile_repairs_total",
                "Differences between store and registry that were repaired",
            )?,
            registry_epochs_total: counter(
                "registry_epochs_total",
                "Times that the registry turned out to have been emptied, restored or begun anew",
            )?,
            reconcile_refusals_total: counter(
                "reconcile_refusals_total",
                "Rounds of reconcile that refused to delete more than a tenth of the circuits",
            )?,
            requests_total,
            api_refusals_total,
            key_files_total,
            apply_wait_seconds,
            workers,
            registry,
        })
    }

    /// All of them in the text format of Prometheus.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_metrics_is_complete() {
        let text = Metrics::new().expect("valid names").render().expect("renders");
        let described: Vec<&str> = text.lines().filter(|line| line.starts_with("# ")).collect();
        let listed: Vec<&str> = include_str!("../metrics.txt").lines().filter(|line| line.starts_with("# ")).collect();
        assert_eq!(
            described,
            listed,
            "coordinator/metrics.txt must list what /metrics shows:\n{}",
            described.join("\n")
        );
    }
}
