//! The requests of one HTTP/1 connection, one after the other.
//!
//! Invariant: between two requests nothing is alive but the stream: no request, no buffer. A head has a time limit and a
//! size limit before anybody parses it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp as _, ReusedHttpStream};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::proxy::{SharedProxy, with_upgrade};
use crate::config::ClientLimits;
use crate::head::{HeadError, MAX_FIELDS, Message, read_head, read_some};
use crate::metrics::Metrics;
use crate::tunnel::Switched;

/// How long an answer to something that is no request may take to be written.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// A connection that has become a tunnel.
pub(super) struct Upgraded {
    /// The client.
    pub(super) client: Stream,
    /// What the client sent before the target had agreed.
    pub(super) to_target: BytesMut,
    /// The other side.
    pub(super) switched: Switched,
}

type Served<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Serves requests until the connection ends or becomes a tunnel.
pub(super) async fn serve(
    mut stream: Stream,
    proxy: &SharedProxy,
    limits: ClientLimits,
    metrics: &Metrics,
    shutdown: &ShutdownWatch,
) -> Option<Upgraded> {
    let mut settings = None;
    loop {
        let mut head = BytesMut::new();
        let length = match next_head(&mut stream, &mut head, limits).await {
            Ok(length) => length,
            Err(fault) => {
                refuse(&mut stream, &fault, metrics).await;
                return None;
            }
        };
        if is_bare_upgrade(head.get(..length).unwrap_or_default()) {
            // Whatever stands behind such a head is not HTTP if the target agrees, and nothing at all if it does not.
            let to_target = head.split_off(length);
            let serving = start(proxy, stream, settings.take(), head, limits, shutdown);
            let upgrading: Served<'_, _> = Box::pin(with_upgrade(serving));
            let (reused, switched) = upgrading.await;
            let (client, next) = reused?.consume();
            match switched {
                Some(switched) => return Some(Upgraded { client, to_target, switched }),
                None if to_target.is_empty() => (stream, settings) = (client, next),
                None => return None,
            }
        } else {
            (stream, settings) = start(proxy, stream, settings.take(), head, limits, shutdown).await?.consume();
        }
    }
}

/// One request, of which `head` and perhaps more is read.
fn start<'a>(
    proxy: &'a SharedProxy,
    stream: Stream,
    settings: Option<HttpPersistentSettings>,
    head: BytesMut,
    limits: ClientLimits,
    shutdown: &'a ShutdownWatch,
) -> Served<'a, Option<ReusedHttpStream>> {
    let mut session = ServerSession::new_http1(stream);
    match settings {
        Some(settings) => settings.apply_to_session(&mut session),
        None => session.set_keepalive(Some(limits.idle.as_secs())),
    }
    session.set_write_timeout(Some(limits.write));
    session.set_pipelined_prefix(head);
    proxy.process_new_http(session, shutdown)
}

/// Why a connection brings no further request.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// The client has nothing more to ask.
    #[error("no further request")]
    Over,
    /// A head has begun and does not end.
    #[error("a head took longer than {0:?}")]
    TooSlow(Duration),
    /// A head has begun and cannot be used.
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// Waits for a request and reads its head.
async fn next_head(stream: &mut Stream, head: &mut BytesMut, limits: ClientLimits) -> Result<usize, Fault> {
    match timeout(limits.idle, read_some(stream, head)).await {
        Ok(Ok(1..)) => {}
        Ok(Ok(0) | Err(_)) | Err(_) => return Err(Fault::Over),
    }
    // Nearly every head is whole with its first bytes, and needs no timer.
    if let Some(whole) = read_head(stream, head, Message::Request).now_or_never() {
        return Ok(whole?);
    }
    let reading = timeout(limits.head, read_head(stream, head, Message::Request)).await;
    Ok(reading.map_err(|_| Fault::TooSlow(limits.head))??)
}

/// Answers what is no request. There is nobody yet who could.
async fn refuse(stream: &mut Stream, fault: &Fault, metrics: &Metrics) {
    let status = match fault {
        Fault::Over | Fault::Head(HeadError::Ended | HeadError::Failed(_)) => return,
        Fault::TooSlow(_) => "408 Request Timeout",
        Fault::Head(HeadError::TooLong) => "431 Request Header Fields Too Large",
        Fault::Head(HeadError::NotHttp) => "400 Bad Request",
    };
    tracing::debug!(%fault, status, fault = "client", "a connection brought no request");
    metrics.count_request(status.get(..3).and_then(|code| code.parse().ok()));
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
    let write = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // The client has been told, or does not listen.
    let _ = timeout(REFUSAL_TIME, write).await;
}

/// Whether a head asks for another protocol and has no content: HTTP/1.1, `Upgrade`, named by `Connection` (RFC 9110
/// §7.8), no `Content-Length` but 0 and no `Transfer-Encoding`.
fn is_bare_upgrade(head: &[u8]) -> bool {
    const NAME: &[u8] = b"upgrade";
    // Nearly every head says no here.
    if !head.windows(NAME.len() + 2).any(|part| part.first() == Some(&b'\n') && is_field(part, NAME)) {
        return false;
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) || request.version != Some(1) {
        return false;
    }
    let mut has_upgrade = false;
    let mut is_named = false;
    for field in request.headers.iter() {
        match field.name.to_ascii_lowercase().as_str() {
            "upgrade" => has_upgrade = true,
            "connection" => {
                let mut tokens = field.value.split(|byte| *byte == b',');
                is_named |= tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(NAME));
            }
            "content-length" if field.value != b"0" => return false,
            "transfer-encoding" => return false,
            _ => {}
        }
    }
    has_upgrade && is_named
}

/// Whether `part`, a line feed and what follows, begins the field `name`.
fn is_field(part: &[u8], name: &[u8]) -> bool {
    let (Some(found), Some(colon)) = (part.get(1..=name.len()), part.last()) else { return false };
    *colon == b':' && found.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_without_content_is_a_bare_upgrade() {
        let is_bare = |fields: &str| is_bare_upgrade(format!("GET /ws HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
        assert!(is_bare("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
        assert!(is_bare("UPGRADE: websocket\r\nconnection: keep-alive, upgrade\r\nContent-Length: 0\r\n"));
        for fields in [
            "Upgrade: websocket\r\n",
            "Connection: Upgrade\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
            "X-Upgrade: websocket\r\nConnection: upgrade\r\n",
        ] {
            assert!(!is_bare(fields), "{fields:?}");
        }
        assert!(!is_bare_upgrade(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
    }
}
