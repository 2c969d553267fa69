//! The last step of the door: which protocol a connection speaks.
//!
//! Pingora's own look needs 24 bytes and waits for them for ever; the shortest request of HTTP/1.0 has 18.
//!
//! Invariant: a connection is read no further than it takes to decide, and every byte that was read is handed on.

use std::io;
use std::time::Duration;

use entities::circuit::Backend;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::connection::{ClientStream, Entrance, EntrancePort};
use crate::serve::Protocol;
use crate::table::Table;

/// RFC 9113 §3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the bytes that decide may take.
const FIRST_BYTES_TIME: Duration = Duration::from_secs(10);

/// What a port carries; it is known when the port is opened, because a circuit keeps its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::listen) enum PortKind {
    /// HTTP, of whichever version.
    Http,
    /// Bytes that nobody looks into.
    Bytes,
}

/// A connection that has begun to speak.
pub(super) struct Spoken {
    pub(super) protocol: Protocol,
    pub(super) first_bytes: Vec<u8>,
}

// === impl PortKind ===

impl PortKind {
    /// What the port of a circuit with this backend carries.
    pub(in crate::listen) fn of(backend: Backend) -> Self {
        match backend {
            Backend::Http | Backend::H2 => Self::Http,
            Backend::Tcp => Self::Bytes,
        }
    }
}

/// Finds out what `stream` speaks; nothing if the client goes, or takes too long, before that is decided.
pub(super) async fn pass(
    stream: &mut ClientStream,
    kind: PortKind,
    entrance: Entrance,
    table: &Table,
) -> Option<Spoken> {
    let protocol = match kind {
        PortKind::Bytes => Protocol::Bytes,
        PortKind::Http if !has_http2(entrance, table) => Protocol::Http1,
        PortKind::Http => {
            let (is_http2, first_bytes) = timeout(FIRST_BYTES_TIME, read_preface(stream)).await.ok()?.ok()?;
            let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
            return Some(Spoken { protocol, first_bytes });
        }
    };
    Some(Spoken { protocol, first_bytes: Vec::new() })
}

/// Whether clients may speak HTTP/2 here by prior knowledge (RFC 9113 §3.3).
fn has_http2(entrance: Entrance, table: &Table) -> bool {
    let EntrancePort::Circuit(port) = entrance.port else { return false };
    table.by_port(port).is_some_and(|circuit| circuit.protocol.is_http2_in_front())
}

/// Whether the stream begins with the preface, and what was read of it.
async fn read_preface(stream: &mut ClientStream) -> io::Result<(bool, Vec<u8>)> {
    let mut bytes = [0; PREFACE.len()];
    let mut length = 0;
    loop {
        let (read, space) = bytes.split_at_mut(length);
        let may_be = PREFACE.starts_with(read);
        if !may_be || space.is_empty() {
            return Ok((may_be, read.to_vec()));
        }
        match stream.read(space).await? {
            0 => return Ok((false, read.to_vec())),
            more => length += more,
        }
    }
}
