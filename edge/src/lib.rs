//! The data plane: gives each circuit its way in, a port or a subdomain, and carries the traffic to its targets.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what an edge is told from outside |
//! | [`cli`], [`settings`] | the command line of `appproxy-edge`, and its configuration file |
//! | `run` | the life of one edge: start, serve, leave |
//! | `listen` | sockets: the traffic port, dynamic ports, the connections on them |
//! | `listen::http1` | HTTP/1 connections between and before their requests |
//! | `listen::http2` | HTTP/2 on the ports of circuits that speak it |
//! | `listen::proxy` | the `ProxyHttp` phases, one file a concern |
//! | [`guard`] | what a request head must be before anybody acts on it |
//! | `head` | the bytes of a message's head, before anybody parses them |
//! | `tunnel` | upgraded connections: the handshake with the target, and the bytes after it |
//! | `tcp` | byte streams, and the relay that carries them and tunnels |
//! | `descriptors` | whether there are file descriptors left |
//! | `table` | circuits by host and by port, and what a change of the registry means for them |
//! | `circuit` | what one circuit needs at run time, and the connections that it has open |
//! | `client` | who the client is: the peer, or whom a trusted proxy speaks for |
//! | [`balance`] | which target gets the next request, and how often one is tried |
//! | `health` | which targets work: what requests meet, and what probes find out |
//! | [`access`] | who may use a circuit: tickets, cookies, bearer tokens, whose page asks |
//! | `address`, `egress` | where a target is, and whether the edge may connect there |
//! | `freshness` | how long ago what is served was confirmed, and whether that is too long |
//! | `sync` | follows the registry, writes the table, says how far it is |
//! | `snapshot` | what is served, on disk: for a start while the registry is away |
//! | `api` | the worker API: health, metrics, status, sync |
//! | `keys` | the worker keys, and their rotation |
//! | `registration` | register, heartbeat and leave at the coordinator |
//! | `presence` | the edge's own key in the registry |
//! | `rate` | how many requests a circuit takes, and how many bytes it carries |
//! | `reply`, `request_id` | the edge's own answers; what each request is called |
//! | `refusals` | what is turned away, counted and logged |
//! | `memory` | how near the memory ceiling is, and what is done about it |
//! | `metrics` | counters; `metrics.txt` lists them |
//!
//! # Invariants
//!
//! * A connection is cut only by the end of its own circuit, of its own port, or of the edge.
//! * `applied` is never ahead of the table and the listening sockets.
//! * A registry that is away, empty, restored or somebody else's takes no circuit away; nor does one that stops naming
//!   many at once. What nobody confirms for too long takes no new requests.
//! * Only `listen` and `balance` know pingora; everything else is tested without it.
//! * Nothing that [`run()`] starts outlives it, but for idle connections to targets (pingora's pool keeps those for at
//!   most the idle time of a target connection) and for a last write of the snapshot that the disk does not take.

pub mod access;
mod address;
mod api;
mod backoff;
pub mod balance;
mod circuit;
pub mod cli;
mod client;
pub mod config;
mod descriptors;
mod egress;
mod freshness;
pub mod guard;
mod head;
mod health;
mod keys;
mod listen;
mod memory;
mod metrics;
mod presence;
mod rate;
mod refusals;
mod registration;
mod reply;
mod request_id;
mod run;
pub mod settings;
mod snapshot;
mod sync;
mod table;
mod tcp;
mod tunnel;

pub use config::{Config, Listeners};
pub use run::{RunError, run};
pub use snapshot::SnapshotError;
