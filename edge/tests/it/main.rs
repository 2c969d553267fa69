//! The edge against real sockets: one module for each kind of thing that could go wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is not as expected must fail its test, in helpers as well"
)]

mod access;
mod affinity;
mod balancing;
mod bandwidth;
mod checks;
mod churn;
mod clients;
mod distrust;
mod door;
mod draining;
mod egress;
mod faults;
mod guard;
mod harness;
mod headers;
mod http;
mod http2;
mod introductions;
mod memory;
mod peer;
mod ports;
mod presence;
mod rates;
mod records;
mod registration;
mod request_ids;
mod retries;
mod routing;
mod shutdown;
mod snapshot;
mod starting;
mod sync;
mod tcp;
mod tunnel;
mod websocket;
