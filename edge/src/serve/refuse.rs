//! Answers of the edge's own where there is no request that pingora could answer.
//!
//! Invariant: this is the only place that writes an answer byte by byte. The client can read it: the connection is not
//! reset while what it still sends is on its way.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::record::{Records, Spoken};
use crate::refusal::Refused;
use crate::reply::{Reply, wants_html};
use crate::request_id::{REQUEST_ID, RequestId};

/// How long an answer may take to be written.
const WRITE_TIME: Duration = Duration::from_secs(1);

/// How long the client may go on sending after that: what is not read when a socket closes makes the system reset the
/// connection, and a reset takes an answer away that has not been read.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How much it may send meanwhile, a few windows of a slow line.
const LINGER_BYTES: usize = 256 * 1024;

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
        write(&reply, &recording.id, head.starts_with(b"HEAD "))
    };
    // The client has been told, or does not listen.
    if matches!(timeout(WRITE_TIME, send(&mut stream, &bytes)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends our direction, and waits for the client to end its own.
pub(super) async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let lingering = async {
        stream.shutdown().await?;
        drain(stream).await;
        std::io::Result::Ok(())
    };
    let _ = timeout(LINGER_TIME, lingering).await;
}

fn write(reply: &Reply, id: &RequestId, is_head_only: bool) -> Vec<u8> {
    let reason = reply.status.canonical_reason().unwrap_or_default();
    let mut head = String::with_capacity(256 + reply.body.len());
    // Writing to a string does not fail.
    let _ = write!(
        head,
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         {REQUEST_ID}: {id}\r\nConnection: close\r\n",
        reply.status.as_u16(),
        reply.content_type,
        reply.body.len(),
    );
    for (name, value) in &reply.fields {
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    if !is_head_only {
        bytes.extend_from_slice(&reply.body);
    }
    bytes
}

/// Throws away what the client still sends, to its end or to [`LINGER_BYTES`].
async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    // On the heap: it must not make the future of every connection larger.
    let mut scratch = vec![0; 4096];
    let mut left = LINGER_BYTES;
    while let Ok(1..) = stream.read(&mut scratch).await.inspect(|read| left = left.saturating_sub(*read)) {
        if left == 0 {
            return;
        }
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
    use crate::guard::Rule;
    use crate::reply::Problem;

    #[test]
    fn an_answer_is_whole_and_says_that_it_is_the_last() {
        let id = RequestId::next();
        let reply = Problem::Malformed(Rule::ObsoleteFold).reply(false, &id);
        let text = String::from_utf8(write(&reply, &id, false)).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains("\r\nConnection: close") && head.contains(&format!("Content-Length: {}", body.len())));
        assert!(head.contains(&format!("\r\nx-request-id: {id}\r\n")) && body.contains(&id.to_string()), "{text}");
        let retry = write(&Problem::ClientConnections.reply(false, &id), &id, true);
        let retry = String::from_utf8(retry).expect("text");
        assert!(retry.contains("retry-after: 5\r\n") && retry.ends_with("\r\n\r\n"), "{retry}");
    }

    #[test]
    fn a_page_is_for_whoever_asks_for_one_in_whatever_way() {
        assert!(wants_page(b"GET / HTTP/1.1\nHost: a\naccept: text/html,*/*\n\n"));
        assert!(!wants_page(b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n"));
        assert!(!wants_page(b"\x16\x03\x01"));
    }
}
