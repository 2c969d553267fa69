//! Sockets: the traffic port, dynamic ports, and the one door that every connection goes through.
//!
//! Invariant: an accept loop that is closed has given its socket back to the operating system when closing returns.

mod accept;
mod connections;
mod door;
mod ports;
mod socket;
mod traffic;

pub(crate) use connections::ConnectionMetrics;
pub(crate) use ports::DynamicPorts;
pub(crate) use traffic::{Listening, TrafficPort};
