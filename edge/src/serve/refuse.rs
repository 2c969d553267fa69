//! Answers of the edge's own where there is no request that pingora could answer.
//!
//! Invariant: the client can read it: the connection is not reset while what it still sends is on its way.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::record::{Records, Spoken};
use crate::refusal::Refused;
use crate::reply::{WRITE_TIME, wants_html};
use crate::socket::{linger, send};

/// Says what is wrong, in the form that `head`, or what there is of it, asks for, and ends the connection.
pub(super) async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: &Arc<Connection>,
    records: &Arc<Records>,
    head: &[u8],
    refused: Refused,
) {
    let spoken = if head.is_empty() { Spoken::Nothing } else { Spoken::Http1 };
    let bytes = {
        let mut recording = records.begin(connection, spoken);
        let reply = refused.problem.reply(wants_page(head), &recording.id);
        recording.status = Some(reply.status.as_u16());
        recording.bytes_to_client = reply.body.len() as u64;
        recording.refuse(refused);
        reply.http1(&recording.id, head.starts_with(b"HEAD "), false)
    };
    // The client has been told, or does not listen.
    if matches!(timeout(WRITE_TIME, send(&mut stream, &bytes)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}

/// Whether these bytes, which may be no head at all, look like a browser's.
fn wants_page(head: &[u8]) -> bool {
    const NAME: &[u8] = b"accept:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let accept = lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)));
    wants_html(accept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_for_whoever_asks_for_one_in_whatever_way() {
        assert!(wants_page(b"GET / HTTP/1.1\nHost: a\naccept: text/html,*/*\n\n"));
        assert!(!wants_page(b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n"));
        assert!(!wants_page(b"\x16\x03\x01"));
    }
}
