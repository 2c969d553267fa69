//! Peers for tests: origins, clients, a stub coordinator, and waiting with a deadline.
//!
//! # Layout
//!
//! | module | what it is |
//! |---|---|
//! | [`origin`] | an application that says back what it received, and echoes over WebSocket |
//! | [`echo`] | a target of bytes that sends them back |
//! | [`http2`] | the same over HTTP/2, and a client |
//! | [`frames`] | a client of HTTP/2 that sends any frames |
//! | [`client`], [`websocket`], [`raw`] | clients: HTTP, WebSocket, bytes as they are |
//! | [`manager`] | opens and closes circuits through the coordinator's API |
//! | [`coordinator`] | a stub that takes registrations and heartbeats |
//! | [`registry`], [`registry_contract`] | a registry that is some way off, one that comes and goes; what every registry must do |
//! | [`mod@etcd`], [`postgres`] | the real ones, on free ports and in folders of their own |
//! | [`corpus`] | malformed messages beside valid twins |
//! | [`memory`] | what this process has |
//! | [`ports`], [`clock`], [`wait`] | free and dead ports, a clock that tests turn, waiting with a deadline |
//!
//! # Invariants
//!
//! * Everything that is started here ends when its handle is dropped.
//! * Nothing but [`wait`] and the lag of [`registry`] sleeps.
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
pub mod corpus;
pub mod echo;
pub mod etcd;
pub mod frames;
mod http;
pub mod http2;
pub mod manager;
pub mod memory;
pub mod origin;
pub mod ports;
pub mod postgres;
pub mod raw;
pub mod registry;
pub mod registry_contract;
mod target;
pub mod wait;
pub mod websocket;
