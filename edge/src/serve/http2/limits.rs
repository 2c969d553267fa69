//! What one HTTP/2 connection may cost.
//!
//! Invariant: a connection has at most [`MAX_TASKS`] tasks and buffers at most [`CONNECTION_WINDOW_BYTES`] of content
//! that targets do not take, whatever its client does.

use std::time::Duration;

use pingora::protocols::http::v2::server::H2Options;

/// How long the handshake may take.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a client may take to answer `GOAWAY` when no stream is open: one round trip of a slow one.
pub(super) const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// Streams that are open at a time (RFC 9113 §5.1.2 recommends at least 100).
const MAX_STREAMS: u32 = 100;

/// Tasks that are alive at a time. A client that resets its streams makes room for more of them before their tasks
/// have seen it (CVE-2023-44487); as many may be on their way out as are open.
pub(super) const MAX_TASKS: usize = 2 * MAX_STREAMS as usize;

/// The same while the client lets answers have less than a KiB at once: what waits for it is up to a MiB each.
pub(super) const MAX_TINY_TASKS: usize = 1;

/// Streams that were malformed, or more than [`MAX_TASKS`], until the connection ends: as many as pingora allows.
pub(super) const MAX_REFUSED_STREAMS: usize = 32;

/// Streams that the client has reset before they were accepted, until the connection ends.
const MAX_RESET_BEFORE_ACCEPT: usize = 20;

/// Streams that had to be reset because the client broke the protocol on them, until the connection ends.
const MAX_RESET_FOR_ERRORS: usize = 128;

/// Fields of one request, decoded, each with 32 bytes for its upkeep (RFC 9113 §6.5.2).
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Content of one stream that its target has not taken yet.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same of one connection: four streams that stall leave nothing for the others.
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;

/// What clients are told, and what the protocol's state machine enforces.
pub(super) fn options() -> H2Options {
    let mut options = H2Options::new();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(MAX_RESET_BEFORE_ACCEPT)
        .max_local_error_reset_streams(Some(MAX_RESET_FOR_ERRORS));
    options
}
