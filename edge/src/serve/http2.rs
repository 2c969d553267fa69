//! HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3), on the ports of circuits that speak it.
//!
//! Each stream is served by a task of its own and has a [`Connection`] of its own, so that the end of a circuit resets
//! the streams that it serves and no others. Notices are for the real connection: it says `GOAWAY`, lets its streams
//! finish and ends; a cut ends all at once.
//!
//! Invariant: when [`serve`] returns, no stream of the connection is served any more.

mod limits;
mod metered;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::Reason;
use pingora::Error;
use pingora::apps::HttpServerApp as _;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, HttpSession, handshake};
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::stream::HttpStream;
use super::{Admitted, Server};
use crate::connection::{ClientStream, Connection, Notice};
use crate::decide::{Arrived, ArrivedStream};
use crate::guard::{Rule, judge_http2};
use crate::limits::STALL_TIME;
use crate::record::Spoken;
use crate::refusal::Refused;
use crate::reply::Problem;
use crate::socket::linger;
use limits::{GOODBYE_TIME, HANDSHAKE_TIME, MAX_REFUSED_STREAMS, MAX_TASKS, MAX_TINY_TASKS, options};
use metered::{Gauge, Metered};

/// A connection while it is served.
struct Serving<'a> {
    http2: h2::server::Connection<Stream, Bytes>,
    /// What passes over it.
    gauge: Arc<Gauge>,
    /// What its streams know about the socket.
    digest: Arc<Digest>,
    connection: &'a Arc<Connection>,
    server: &'a Server,
    is_closing: &'a ShutdownWatch,
    streams: JoinSet<()>,
    /// Places for answers that nobody takes.
    stalled: Option<OwnedSemaphorePermit>,
    /// When to look for more of them.
    next_look: Option<Instant>,
    /// Streams that were taken in so far.
    taken: u64,
    /// What the connection has been told so far.
    notice: Notice,
    /// Whether the client has been told to go.
    is_leaving: bool,
    /// Streams that were not served.
    refused: usize,
}

/// Serves HTTP/2 on a stream whose first bytes are the preface, until the client goes or the connection must end.
pub(super) async fn serve<M>(server: &Server, admitted: Admitted<M>) {
    let Admitted { connection, stream, first_bytes, memberships: _memberships, is_closing, .. } = admitted;
    let gauge = Gauge::new();
    let stream = HttpStream::new(stream, first_bytes, |stream| Metered::new(stream, Arc::clone(&gauge)));
    let stream: Stream = Box::new(stream);
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
        gauge,
        digest,
        connection: &connection,
        server,
        is_closing: &is_closing,
        streams,
        stalled: None,
        next_look: None,
        taken: 0,
        notice: Notice::Stay,
        is_leaving: false,
        refused: 0,
    };
    serving.run().await;
    serving.streams.shutdown().await;
}

/// Says `GOAWAY` to a client that is turned away.
pub(super) async fn turn_away(
    server: &Server,
    mut stream: ClientStream,
    connection: &Arc<Connection>,
    refused: Refused,
) {
    // An empty SETTINGS (RFC 9113 §3.4), then GOAWAY: no stream was taken, ENHANCE_YOUR_CALM (§6.8, §7).
    const ANSWER: [u8; 26] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    server.shared.records.turn_away(connection, Spoken::Http2, refused);
    let saying = async {
        stream.write_all(&ANSWER).await?;
        stream.flush().await
    };
    // It has been told, or does not listen.
    let _ = timeout(GOODBYE_TIME, saying).await;
    linger(&mut stream).await;
}

/// Whether the client said what no connection of HTTP/2 may say (RFC 9113 §5.4.1); one that only breaks off does not.
fn breaks_rules(error: &Error) -> bool {
    error.root_cause().downcast_ref::<h2::Error>().is_some_and(|cause| cause.is_go_away() && !cause.is_remote())
}

// === impl Serving ===

impl Serving<'_> {
    async fn run(&mut self) {
        loop {
            let is_idle = self.streams.is_empty();
            // What the last stream said may still be on its way to the client.
            let has_said_all = !self.http2.has_streams();
            // The time goes on while streams come and go.
            let may_stall = self.gauge.is_starved() || self.stalled.is_some();
            let next_look = *self.next_look.get_or_insert_with(|| Instant::now() + STALL_TIME);
            if !may_stall {
                self.next_look = None;
            }
            let idle_time =
                if self.is_leaving && has_said_all { GOODBYE_TIME } else { self.server.shared.limits.http2_idle };
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
                    Ok(Some(H2Accept::Session(session))) if self.has_room() => self.begin(session),
                    Ok(Some(H2Accept::Session(mut session))) => {
                        session.shutdown_with_reason(Reason::REFUSED_STREAM);
                        self.turn_away(Problem::TooManyStreams, "too_many_streams");
                    }
                    Ok(Some(H2Accept::Rejected)) => {
                        // Pingora has answered it.
                        self.turn_away(Problem::BadContent, "http2_head");
                    }
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%error, fault = "client", "an HTTP/2 connection broke");
                        if breaks_rules(&error) {
                            self.turn_away(Problem::Http2Abuse, "http2_rules");
                        }
                        return;
                    }
                },
                () = self.gauge.changed() => {}
                () = sleep_until(next_look.into()), if may_stall => self.hold_stalled(),
                () = tokio::time::sleep(idle_time), if is_idle => {
                    if self.is_leaving {
                        return;
                    }
                    self.leave();
                }
            }
            if let Some(abuse) = self.gauge.abuse() {
                return self.break_off(abuse.as_str()).await;
            }
            if self.refused >= MAX_REFUSED_STREAMS {
                return self.break_off("malformed_streams").await;
            }
        }
    }

    /// Whether another stream may be served. Answers that have no room to go are kept, so a client whose windows are tiny
    /// gets them one by one.
    fn has_room(&self) -> bool {
        let max = if self.gauge.has_tiny_windows() { MAX_TINY_TASKS } else { MAX_TASKS };
        self.streams.len() < max
    }

    /// Takes a place for each answer that nobody has taken for a while, and gives those back that go on.
    fn hold_stalled(&mut self) {
        let Some(before) = Instant::now().checked_sub(STALL_TIME) else { return };
        (self.stalled, self.next_look) = (None, None);
        let count = u32::try_from(self.gauge.stalled(before)).unwrap_or(u32::MAX);
        if count == 0 {
            return;
        }
        match Arc::clone(&self.server.stalled).try_acquire_many_owned(count) {
            Ok(places) => self.stalled = Some(places),
            Err(_) => self.gauge.note_stalled(),
        }
    }

    /// Notes a stream that is not served.
    fn turn_away(&mut self, problem: Problem, detail: &'static str) {
        self.server.shared.records.turn_away(self.connection, Spoken::Http2, Refused::new(problem, detail));
        self.refused += 1;
    }

    /// Serves a stream beside the others.
    fn begin(&mut self, mut session: HttpSession) {
        let limits = &self.server.shared.limits;
        self.taken += 1;
        let is_last = self.taken == limits.max_requests;
        session.set_write_timeout(Some(limits.write));
        let malformed = judge_http2(session.req_header()).err();
        if malformed.is_some() {
            self.refused += 1;
        }
        let stream = Arc::new(self.connection.stream());
        let mut recording = self.server.shared.records.begin(&stream, Spoken::Http2);
        recording.head_read(Instant::now());
        if malformed == Some(Rule::MethodConnect) {
            // Pingora answers it before any phase in which the proxy could.
            recording.refuse(Refused::new(Problem::Malformed(Rule::MethodConnect), "http2_connect"));
        }
        let arrived = Arrived { recording, connection: Arc::clone(&stream), malformed, exit: None };
        session.req_header_mut().extensions_mut().insert(ArrivedStream::new(arrived));
        let (proxy, is_closing) = (Arc::clone(&self.server.proxy), self.is_closing.clone());
        self.streams.spawn(async move {
            let serving = proxy.process_new_http(ServerSession::new_http2(session), &is_closing);
            // A stream that is dropped before its end is reset (h2 does that).
            stream.unless_ended(serving).await;
        });
        if is_last {
            self.leave();
        }
    }

    /// Tells the client to take its next request elsewhere. Streams that it opened before it heard that are served.
    fn leave(&mut self) {
        if !self.is_leaving {
            self.is_leaving = true;
            self.http2.graceful_shutdown();
        }
    }

    /// Ends a connection that brings too much that cannot be served.
    async fn break_off(&mut self, why: &'static str) {
        let refused = Refused::new(Problem::Http2Abuse, why);
        self.server.shared.records.turn_away(self.connection, Spoken::Http2, refused);
        self.http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        // If the client does not take the reason, it ends without one.
        let _ = timeout(GOODBYE_TIME, poll_fn(|context| self.http2.poll_closed(context))).await;
    }
}
