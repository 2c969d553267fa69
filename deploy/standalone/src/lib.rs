//! The App Proxy in one process: coordinator and edge, SQLite in a folder, the registry in memory.
//!
//! # Layout
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | the command line, and its exit codes |
//! | [`serve`] | joins a coordinator and an edge, and ends them in order |
//! | [`data`] | the data folder: its lock, the database, the API keys |
//! | [`ready`] | waits until everything answers, and says so with an example to paste |
//! | [`demo`] | a small page with a live WebSocket, so that there is something to open |
//!
//! # Invariants
//!
//! * This is the only crate that knows both `coordinator` and `edge`; they talk over the same contracts as in a
//!   cluster, so that what is tried here is what runs there.
//! * Everything listens on loopback unless told otherwise.
//! * What is answered with `201` survives `kill -9`: the store is the only state, and the registry is filled from it.

pub mod cli;
pub mod data;
pub mod demo;
pub mod ready;
pub mod serve;
