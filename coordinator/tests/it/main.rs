//! The coordinator, driven through its API as managers and edges drive it. One module a risk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod access;
mod audit;
mod changing;
mod closing;
mod contracts;
mod crashes;
mod fake_worker;
mod filling;
mod harness;
mod limits;
mod listing;
mod losing;
mod opening;
mod passes;
mod reconcile;
mod refused_ports;
mod registration;
mod request_ids;
mod resting;
mod rotation;
mod schema;
mod showing;
mod target_health;
mod tls;
mod waiting;
