//! The data plane: gives each circuit its way in, a port or a subdomain, and carries the traffic to its targets.
//!
//! # Layout
//!
//! From a client to a target, each room naming only rooms below it (`deploy/test --only arrows` draws them):
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`], [`settings`], [`config`] | the command line, the configuration file, what an edge is told from outside |
//! | `run` | the life of one edge: start, serve, leave; the counters of all rooms |
//! | `listen` | sockets, and the one door of every connection: introduction, shedding, caps, securing, protocol |
//! | `serve` | what a connection speaks: HTTP/1 between its requests, HTTP/2, bytes |
//! | `exchange` | plain requests of HTTP/1, carried by the edge itself: heads and framing both ways, idle target connections |
//! | `proxy` | everything else of HTTP, in the phases of pingora: choose, edit, judge the answer |
//! | `decide` | what becomes of a request, for both engines: identify, find, admit, open |
//! | `tunnel`, `tcp` | upgraded connections and byte streams, and the relay that carries both |
//! | `shared` | what everything that serves clients shares |
//! | `sync`, `snapshot` | follow the registry and write the table; what is served, on disk |
//! | `table`, `circuit` | circuits by host and by port; what one circuit needs at run time |
//! | [`balance`], `health` | which target gets the next request; which targets work |
//! | `address`, `egress` | where a target is, and whether the edge may connect there |
//! | [`access`] | who may use a circuit: tickets, cookies, bearer tokens, whose page asks |
//! | `record`, `refusal` | what is known about whatever has ended, and who is told; what is turned away |
//! | `connection`, `client` | a client's connection: its stream, its entrance, what it is told; who the client is |
//! | `rate`, `memory`, `freshness` | limits of rates and bytes, of memory, of the age of what is served |
//! | `api`, `registration`, `presence`, `keys` | the worker API; the edge at its coordinator and in the registry |
//! | `reply`, `request_id`, `head`, [`guard`] | answers of the edge; names of requests; heads as bytes, and what they may be |
//! | `metrics`, `words` | how rooms count, in closed sets of words; `metrics.txt` lists all counters |
//! | `limits`, `slot`, `position`, `backoff`, `descriptors`, `socket` | small things that many rooms need |
//!
//! # Invariants
//!
//! * A connection is cut only by the end of its own circuit, of its own port, or of the edge.
//! * `applied` is never ahead of the table and the listening sockets.
//! * A registry that is away, empty, restored or somebody else's takes no circuit away; nor does one that stops naming
//!   many at once. What nobody confirms for too long takes no new requests.
//! * Only `proxy`, `serve` and `balance` know pingora; everything else is tested without it.
//! * Rooms form no circle. Whatever ends has one record, and what a client is told decides what is counted.
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
mod connection;
mod decide;
mod descriptors;
mod egress;
mod exchange;
mod freshness;
pub mod guard;
mod head;
mod health;
mod keys;
mod limits;
mod listen;
mod memory;
mod metrics;
mod position;
mod presence;
mod proxy;
mod rate;
mod record;
mod refusal;
mod registration;
mod reply;
mod request_id;
mod run;
mod serve;
pub mod settings;
mod shared;
mod slot;
mod snapshot;
mod socket;
mod sync;
mod table;
mod tcp;
mod tunnel;
mod words;

pub use config::{Config, Http1Engine, Listeners};
pub use connection::{Secure, SecuredStream, Security};
pub use head::RequestView;
pub use run::{RunError, run};
pub use snapshot::SnapshotError;
