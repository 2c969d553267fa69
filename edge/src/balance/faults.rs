//! What goes wrong at targets, and what is counted of it.
//!
//! Invariant: an attempt that fails is counted once, with one reason.

use crate::metrics::{CounterOf, metrics};
use crate::words::words;

metrics! {
    /// What is counted of targets.
    pub(crate) struct TargetMetrics {
        faults: CounterOf<TargetFault> = ("target_faults_total", "Attempts that failed at a target"),
        retries: CounterOf<Retry> = ("retries_total", "Requests tried once more; unpaid ones were not"),
    }
}

words! {
    /// What went wrong at a target.
    pub(crate) enum TargetFault in "reason" {
        /// Its name has no address.
        Resolve = "resolve",
        /// It does not take connections.
        Connect = "connect",
        /// It does not answer the attempt to connect.
        ConnectTimeout = "connect_timeout",
        /// It broke off, or what it says is not HTTP.
        Broken = "broken",
        /// It did not answer in time.
        Timeout = "timeout",
        /// The edge may not connect there.
        Forbidden = "forbidden",
    }
}

words! {
    /// Why a request is tried once more, or is not although it might have been.
    pub(crate) enum Retry in "reason" {
        /// Nothing was sent: there was no connection.
        Connect = "connect",
        /// The target had closed a connection that was to be used again.
        Reused = "reused",
        /// It was sent, and the circuit allows to send it again.
        Sent = "sent",
        /// It might have been sent again, but the circuit's budget is spent.
        Unpaid = "unpaid",
    }
}
