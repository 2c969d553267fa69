//! Byte streams: what is carried without being understood.
//!
//! Invariant: nothing here knows pingora, and nothing looks into the bytes.

mod connect;
mod proxy_protocol;
mod recorded;
pub(crate) mod relay;

pub(crate) use connect::{ConnectError, ReachedTarget, connect, reach};
pub(crate) use proxy_protocol::header as proxy_header;
pub(crate) use recorded::{OpenRelay, Recorded};
