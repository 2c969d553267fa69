//! HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3), on the ports of circuits that speak it.
//!
//! Each stream is served by a task of its own and has a [`Connection`] of its own, so that the end of a circuit resets
//! the streams that it serves and no others. Notices are for the real connection: it says `GOAWAY`, lets its streams
//! finish and ends; a cut ends all at once.
//!
//! Invariant: when [`serve`] returns, no stream of the connection is served any more.

mod first_bytes;
mod limits;

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::request::Parts;
use pingora_core::apps::HttpServerApp as _;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, HttpSession, handshake};
use pingora_core::protocols::{Digest, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accept::ServingContext;
use super::connections::next_number;
use super::proxy::{CONNECTION, SharedProxy};
use crate::circuit::{Connection, Notice};
use crate::guard::judge_http2;
use crate::refusals::Refusal;
pub(super) use first_bytes::{FirstBytes, first_bytes};
use limits::{GOODBYE_TIME, HANDSHAKE_TIME, IDLE_TIME, MAX_REFUSED_STREAMS, MAX_TASKS, options};

/// A connection while it is served.
struct Serving<'a> {
    http2: h2::server::Connection<Stream, Bytes>,
    /// What its streams know about the socket.
    digest: Arc<Digest>,
    connection: &'a Connection,
    proxy: &'a SharedProxy,
    context: &'a ServingContext,
    shutdown: &'a ShutdownWatch,
    streams: JoinSet<()>,
    /// Streams that were taken in so far.
    taken: u64,
    /// What the connection has been told so far.
    notice: Notice,
    /// Whether the client has been told to go.
    is_leaving: bool,
    /// Streams that were not served.
    refused: usize,
}

/// Serves HTTP/2 on `stream`, whose first bytes are the preface, until the client goes or `connection` must end.
///
/// It watches `connection` itself: whoever calls it does not drop it for a notice.
pub(super) async fn serve(
    stream: Stream,
    connection: &Connection,
    proxy: &SharedProxy,
    context: &ServingContext,
    shutdown: &ShutdownWatch,
) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let shaking_hands = timeout(HANDSHAKE_TIME, handshake(stream, Some(options())));
    let http2 = match connection.unless_ended(shaking_hands).await {
        Some(Ok(Ok(http2))) => http2,
        Some(Ok(Err(error))) => {
            tracing::debug!(%error, fault = "client", "an HTTP/2 connection did not begin");
            return;
        }
        Some(Err(_)) | None => return,
    };
    let streams = JoinSet::new();
    let mut serving = Serving {
        http2,
        digest,
        connection,
        proxy,
        context,
        shutdown,
        streams,
        taken: 0,
        notice: Notice::Stay,
        is_leaving: false,
        refused: 0,
    };
    serving.run().await;
    serving.streams.shutdown().await;
}

/// Says `GOAWAY` to a client that has too many connections.
pub(super) async fn turn_away(mut stream: Stream) {
    // An empty SETTINGS (RFC 9113 §3.4), then GOAWAY: no stream was taken, ENHANCE_YOUR_CALM (§6.8, §7).
    const ANSWER: [u8; 26] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    let saying = async {
        stream.write_all(&ANSWER).await?;
        stream.flush().await
    };
    // It has been told, or does not listen.
    let _ = timeout(GOODBYE_TIME, saying).await;
    super::refuse::linger(&mut stream).await;
}

// === impl Serving ===

impl Serving<'_> {
    async fn run(&mut self) {
        loop {
            let is_idle = self.streams.is_empty();
            // What the last stream said may still be on its way to the client.
            let has_said_all = !self.http2.has_streams();
            let idle_time = if self.is_leaving && has_said_all { GOODBYE_TIME } else { IDLE_TIME };
            tokio::select! {
                biased;
                notice = poll_fn(|context| self.connection.poll_notice(self.notice, context)) => {
                    self.notice = notice;
                    if notice == Notice::Cut {
                        return;
                    }
                    self.leave();
                }
                Some(ended) = self.streams.join_next(), if !is_idle => {
                    if let Err(error) = ended {
                        tracing::error!(%error, fault = "edge", "a stream failed");
                    }
                }
                // This drives the whole connection; it loses nothing when it is dropped and called again.
                accepted = HttpSession::from_h2_conn(&mut self.http2, Arc::clone(&self.digest)) => match accepted {
                    Ok(Some(H2Accept::Session(session))) if self.streams.len() < MAX_TASKS => self.begin(session),
                    Ok(Some(H2Accept::Session(mut session))) => {
                        session.shutdown_with_reason(Reason::REFUSED_STREAM);
                        self.refused += 1;
                    }
                    Ok(Some(H2Accept::Rejected)) => self.refused += 1,
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%error, fault = "client", "an HTTP/2 connection broke");
                        return;
                    }
                },
                () = tokio::time::sleep(idle_time), if is_idle => {
                    if self.is_leaving {
                        return;
                    }
                    self.leave();
                }
            }
            if self.refused >= MAX_REFUSED_STREAMS {
                self.break_off().await;
                return;
            }
        }
    }

    /// Serves a stream beside the others.
    fn begin(&mut self, mut session: HttpSession) {
        let limits = self.context.client;
        self.taken += 1;
        if self.taken == limits.max_requests {
            self.leave();
        }
        session.set_write_timeout(Some(limits.write));
        if let Err(rule) = judge_http2(session.req_header()) {
            self.context.refusals.note(Refusal::Malformed, self.connection.client.ip, None, rule);
            self.refused += 1;
            // Look-up answers it in the words that the client understands.
            let mut parts: Parts = session.req_header().clone().into();
            parts.extensions.insert(rule);
            *session.req_header_mut() = parts.into();
        }
        let stream = Arc::new(self.connection.stream(next_number()));
        let (proxy, shutdown) = (Arc::clone(self.proxy), self.shutdown.clone());
        self.streams.spawn(async move {
            let serving = proxy.process_new_http(ServerSession::new_http2(session), &shutdown);
            // A stream that is dropped before its end is reset (h2 does that).
            stream.unless_ended(CONNECTION.scope(Arc::clone(&stream), serving)).await;
        });
    }

    /// Tells the client to take its next request elsewhere. Streams that it opened before it heard that are served.
    fn leave(&mut self) {
        if !self.is_leaving {
            self.is_leaving = true;
            self.http2.graceful_shutdown();
        }
    }

    /// Ends a connection that brings too much that cannot be served.
    async fn break_off(&mut self) {
        self.context.refusals.note(Refusal::Http2Abuse, self.connection.client.ip, None, "malformed_streams");
        self.http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        // If the client does not take the reason, it ends without one.
        let _ = timeout(GOODBYE_TIME, poll_fn(|context| self.http2.poll_closed(context))).await;
    }
}
