//! Peers for tests: origins, clients, a stub coordinator, and waiting with a deadline.
//!
//! Invariant: everything that is started here ends when its handle is dropped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test peer that cannot work must fail its test"
)]

pub mod client;
pub mod clock;
pub mod coordinator;
mod http;
pub mod origin;
pub mod ports;
pub mod raw;
pub mod registry;
pub mod registry_contract;
pub mod wait;
pub mod websocket;
