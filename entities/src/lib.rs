//! The words of the App Proxy as types, and the contract between coordinator and edges.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | typed names and counters: keys, ids, generations, revisions |
//! | [`host`] | host names and subdomains in normal form |
//! | [`circuit`] | one routing rule: what a caller asks for, what an edge gets, what may change |
//! | [`frontend`], [`target`], [`access`], [`balance`], [`health_check`], [`rate`] | the parts of a circuit |
//! | [`authority`], [`worker`] | the addresses that clients use, and the edges behind them |
//! | [`range`] | ranges of addresses, as operators and callers write them |
//! | [`token`] | what opens private circuits: tickets, bearer tokens, cookies, and the keys behind them |
//! | [`faults`], [`fields`] | reading outside JSON so that every fault is reported at once |
//! | [`registry`] | key layout, envelopes, `trait Registry`, the in-process registry and, with feature `etcd`, etcd |
//! | [`clock`], [`limits`] | time from outside; every limit with its arithmetic |
//! | `orm` (feature `orm`) | SeaORM entities and conversions to the types above |
//!
//! # Invariants
//!
//! * A value of a type in this crate is valid: outside data becomes one only through a parser that names what is wrong.
//! * Without features nothing here does I/O; without `orm` nothing knows a database; the edge builds it that way.
//! * Registry keys are built and parsed in `registry/layout.rs` and nowhere else.

pub mod access;
pub mod authority;
pub mod balance;
pub mod circuit;
pub mod clock;
pub mod faults;
pub mod fields;
pub mod frontend;
pub mod health_check;
pub mod host;
pub mod ids;
pub mod limits;
#[cfg(feature = "orm")]
pub mod orm;
pub mod range;
pub mod rate;
pub mod registry;
pub mod target;
pub mod token;
pub mod worker;
