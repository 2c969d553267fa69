//! The contracts that several crates rely on, driven from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod etcd_contract;
mod etcd_outages;
mod etcd_security;
mod etcd_watch;
mod memory_registry;
