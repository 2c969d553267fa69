//! What the programs that measure have in common.
//!
//! # Layout
//!
//! | module | what it does |
//! |---|---|
//! | [`circuits`] | circuits by number, as the registry and the store take them |
//! | [`stored`] | a data folder with many circuits |
//! | [`process`] | programs in processes of their own, and what the kernel says about them |
//! | [`in_process`] | an edge in this process, with a registry to write to |
//! | [`asker`] | how far an edge is, asked as a coordinator asks |
//! | [`service`] | a program of ours with a configuration file and a log |
//! | [`edge_process`] | an edge in a process of its own |
//! | [`filled_etcd`] | an etcd with many circuits, and edges that follow it without a coordinator |
//! | [`cluster`] | PostgreSQL, etcd, a coordinator and two edges |
//! | [`samples`] | quantiles and medians |
//! | [`report`] | the table, the machine, and the JSON line |
//!
//! # Invariants
//!
//! * Nothing here looks into the parts that are measured: only what they make public is used.
//! * A figure is printed together with the load of the machine at that time.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on must end, not print a wrong figure"
)]

pub mod asker;
pub mod circuits;
pub mod cluster;
pub mod edge_process;
pub mod filled_etcd;
pub mod in_process;
pub mod process;
pub mod report;
pub mod samples;
pub mod service;
pub mod stored;
