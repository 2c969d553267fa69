//! What the programs have in common: configuration files, logging, signals, exit codes.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | reads a configuration file and the environment over it; every fault at once, with its line |
//! | [`registry`] | the section `[registry]`, and the registry that it describes |
//! | [`config_file`] | `config sample` and `config check`, and reading the file that `--config` names |
//! | [`follow`] | small files that may be replaced while a program runs |
//! | [`log`] | what is logged, and where to |
//! | [`sample`] | how many lines of the log strangers can provoke |
//! | [`exit`] | how a program begins, and the codes that it ends with |
//! | [`stop`] | SIGTERM and SIGINT |
//! | [`system`] | limits and ranges of the operating system that a proxy runs into |
//!
//! # Invariants
//!
//! * Nothing here knows coordinator or edge.
//! * A secret is in no error, no log line and no `Debug` text.

pub mod config_file;
pub mod exit;
pub mod follow;
pub mod log;
pub mod registry;
pub mod sample;
pub mod settings;
pub mod stop;
pub mod system;
