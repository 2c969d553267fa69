//! A cluster, driven as its users and its faults drive it. One module a promise or a risk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod circuits;
mod faults;
mod load;
mod promises;
mod secrets;
