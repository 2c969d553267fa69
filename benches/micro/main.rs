//! Micro benchmarks of the parts that stand on the way of a request or of a change.
//!
//! Invariant: what grows with the number of circuits is measured at two numbers of them.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on must end, and criterion's macros write public functions"
)]

mod access;
mod envelope;
mod guard;
mod host;
mod registry;
mod selection;
mod slots;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    micro,
    access::measure,
    envelope::measure,
    guard::measure,
    host::measure,
    registry::measure,
    selection::measure,
    slots::measure
);
criterion_main!(micro);
