//! The whole proxy, in one process or as the program that people start.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod apps;
mod bare;
mod child;
mod circuits;
mod cli;
mod connections;
mod descriptors;
mod floods;
mod grpc;
mod harness;
mod http2;
mod neighbours;
mod ports;
mod program;
mod replicas;
mod streams;
