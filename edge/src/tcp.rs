//! Byte streams: what is carried without being understood.
//!
//! Invariant: nothing here knows pingora, and nothing looks into the bytes.

pub(crate) mod relay;
