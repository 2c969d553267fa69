//! `load`: measures a running proxy. Parse → run → print.
//!
//! Invariant: each subcommand is one budget or one question, and cleans up what it starts.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on must end, not print a wrong figure"
)]

mod changes;
mod checks;
mod cluster;
mod cpu;
mod echo;
mod grpc;
mod memory;
mod open;
mod ready;
mod served;
mod stalled;
mod tcp;
mod tools;
mod tunnels;

use clap::{Parser, Subcommand};

/// The allocator of the proxy.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures a running proxy; the last line of each answer is JSON.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// From the start of `appproxy` to its `ready` line, with many stored circuits.
    Ready(ready::Args),
    /// `POST /v2/circuits` end to end, one at a time.
    Open(open::Args),
    /// From a write in the registry to the first answer at an edge.
    Served(served::Args),
    /// Processor time for a small request, against a bare pingora proxy and nginx.
    Cpu(cpu::Args),
    /// Resident memory for each idle WebSocket, against haproxy and nginx.
    Tunnels(tunnels::Args),
    /// Processor time for each GB of a byte stream, against haproxy with splice.
    Tcp(tcp::Args),
    /// What the edge adds to a unary gRPC call.
    Grpc(grpc::Args),
    /// Resident memory for each client that has stopped reading.
    Stalled(stalled::Args),
    /// What health checks cost an edge: probes and processor time.
    Checks(checks::Args),
    /// One measurement of `checks`, in a process of its own.
    #[command(hide = true)]
    ChecksOf(checks::One),
    /// What it costs to change one target of one circuit, by how many circuits there are.
    Changes(changes::Args),
    /// Opening in a cluster, and from a write in etcd to the first answer at two edges.
    ClusterServed(cluster::served::Args),
    /// Start and memory of an edge that finds many circuits in etcd.
    ClusterReady(cluster::ready::Args),
    /// What an edge does when its watch ended and few circuits changed.
    ClusterRelist(cluster::relist::Args),
    /// Processor time for each open, of each part of a cluster.
    ClusterCpu(cluster::cpu::Args),
    /// Resident memory for circuits and for ports.
    Memory(memory::Args),
    /// One measurement of `memory`, in a process of its own.
    #[command(hide = true)]
    MemoryOf(memory::One),
}

#[tokio::main]
async fn main() {
    match Cli::parse().command {
        Command::Ready(args) => ready::run(args).await,
        Command::Open(args) => open::run(args).await,
        Command::Served(args) => served::run(args).await,
        Command::Cpu(args) => cpu::run(args).await,
        Command::Tunnels(args) => tunnels::run(args).await,
        Command::Tcp(args) => tcp::run(args).await,
        Command::Grpc(args) => grpc::run(args).await,
        Command::Stalled(args) => stalled::run(args).await,
        Command::Checks(args) => checks::run(args).await,
        Command::ChecksOf(args) => checks::run_one(args).await,
        Command::Changes(args) => changes::run(args).await,
        Command::ClusterServed(args) => cluster::served::run(args).await,
        Command::ClusterReady(args) => cluster::ready::run(args).await,
        Command::ClusterRelist(args) => cluster::relist::run(args).await,
        Command::ClusterCpu(args) => cluster::cpu::run(args).await,
        Command::Memory(args) => memory::run(args),
        Command::MemoryOf(args) => memory::run_one(args).await,
    }
}
