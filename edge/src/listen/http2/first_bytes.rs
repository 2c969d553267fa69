//! Tells HTTP/2 from everything else by the first bytes of a connection.
//!
//! Pingora's own look needs 24 bytes and waits for them for ever; the shortest request of HTTP/1.0 has 18.
//!
//! Invariant: a connection is read no further than it takes to decide, and every byte is put back.

use std::io;

use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Socket;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::limits::HANDSHAKE_TIME;

/// RFC 9113 §3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that has begun to speak.
pub(in crate::listen) enum FirstBytes {
    /// It speaks HTTP/2.
    Http2(Stream),
    /// It does not.
    Other(Stream),
}

/// Waits for what decides; `None` if the client goes or takes too long.
pub(in crate::listen) async fn first_bytes(stream: Stream) -> Option<FirstBytes> {
    // Only a connection without TLS is a socket; others agree on the protocol in their handshake.
    let mut socket: Box<Socket> = stream.into_any().downcast().ok()?;
    let is_http2 = timeout(HANDSHAKE_TIME, begins_with_preface(&mut socket)).await.ok()?.ok()?;
    Some(if is_http2 { FirstBytes::Http2(socket) } else { FirstBytes::Other(socket) })
}

async fn begins_with_preface(socket: &mut Socket) -> io::Result<bool> {
    let mut bytes = [0; PREFACE.len()];
    let mut length = 0;
    let is_http2 = loop {
        let (read, space) = bytes.split_at_mut(length);
        if !PREFACE.starts_with(read) {
            break false;
        }
        if space.is_empty() {
            break true;
        }
        match socket.read(space).await? {
            0 => break false,
            more => length += more,
        }
    };
    let (read, _) = bytes.split_at(length);
    socket.rewind(read);
    Ok(is_http2)
}
