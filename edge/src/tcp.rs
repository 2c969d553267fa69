//! Byte streams: what is carried without being understood.
//!
//! Invariant: nothing here knows pingora, and nothing looks into the bytes.

mod connect;
mod keep_alive;
mod proxy_protocol;
pub(crate) mod relay;
mod serve;

pub(crate) use connect::{ConnectError, connect};
pub(crate) use keep_alive::keep_alive;
#[cfg(test)]
pub(crate) use proxy_protocol::header as proxy_header;
pub(crate) use serve::{Streams, reset, serve};
