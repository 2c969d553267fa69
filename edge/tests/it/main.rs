//! The edge against real sockets: one module for each kind of thing that could go wrong.

mod churn;
mod dbg;
mod faults;
mod harness;
mod headers;
mod ports;
mod registration;
mod routing;
mod shutdown;
mod sync;
mod websocket;
