//! The requests of one HTTP/1 connection, one after the other.
//!
//! Invariant: between two requests nothing is alive but the stream: no request, no buffer. A head has a time limit and a
//! size limit, and the guard has judged it, before pingora sees a byte.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use pingora::apps::{HttpPersistentSettings, HttpServerApp as _, ReusedHttpStream};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::rewound::Rewound;
use super::stall_guard::StallGuard;
use super::stream::HttpStream;
use super::{Server, refuse};
use crate::config::ClientLimits;
use crate::connection::{ClientStream, Connection};
use crate::decide::{Arrived, Exit};
use crate::exchange::{Kept, Line, Next};
use crate::guard::{Judged, Rule, judge_http1, judge_start};
use crate::head::{HeadError, Message, read_head, read_some};
use crate::limits::DRAIN_TIME;
use crate::record::{EndedBy, Records, Spoken};
use crate::refusal::{Fault, Refused};
use crate::reply::Problem;
use crate::tunnel::Switched;

/// A connection that has become a tunnel.
pub(super) struct Upgraded {
    /// The client.
    pub(super) client: ClientStream,
    /// What the client sent before the target had agreed.
    pub(super) to_target: BytesMut,
    /// The other side.
    pub(super) switched: Switched,
}

/// What stands between a client's stream and pingora.
type Layers = StallGuard<Rewound>;

type Serving<'a> = Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'a>>;

/// Serves requests of `connection` until it ends or becomes a tunnel.
pub(super) async fn serve(
    server: &Server,
    connection: &Arc<Connection>,
    stream: ClientStream,
    first_bytes: Vec<u8>,
    is_closing: &ShutdownWatch,
) -> Option<Upgraded> {
    let limits = server.limits(connection);
    let layer = |stream| StallGuard::new(stream, Arc::clone(&server.stalled));
    let mut stream = Box::new(HttpStream::new(stream, first_bytes, layer));
    let mut settings = None;
    let mut kept = Kept::default();
    let mut requests = 0;
    let mut head = BytesMut::new();
    loop {
        let read = match next_head(server, connection, &mut *stream, &mut head, limits).await {
            Ok(read) => read,
            Err(why) => {
                // Boxed, as it must not make the future of every connection larger.
                Box::pin(end(server, connection, *stream, &why, &head)).await;
                return None;
            }
        };
        requests += 1;
        let is_last = requests == limits.max_requests;
        let is_bare_upgrade = read.judged.is_bare_upgrade;
        let mut recording = server.shared.records.begin(connection, Spoken::Http1);
        recording.head_read(read.began);
        let mut arrived = Arrived { recording, connection: Arc::clone(connection), malformed: None, exit: None };
        if let Some(engine) = server.engine.as_ref().filter(|_| !is_bare_upgrade)
            && let Some(client) = stream.layers_mut().inner_mut().bare_mut()
        {
            let line = Line { client, read: &mut head, kept: &mut kept, is_last };
            // Boxed: what a request needs must not make the future of every connection larger.
            match Box::pin(engine.serve(line, read.length, arrived)).await {
                Next::Request => {
                    if head.is_empty() {
                        head = BytesMut::new();
                    }
                    continue;
                }
                Next::End => return None,
                Next::Elsewhere(back) => arrived = *back,
            }
        }
        // Whatever stands behind such a head is not HTTP if the target agrees, and nothing at all if it does not.
        let to_target = if is_bare_upgrade { head.split_off(read.length) } else { BytesMut::new() };
        let exit = is_bare_upgrade.then(Exit::default);
        arrived.exit.clone_from(&exit);
        let request = Request { head: std::mem::take(&mut head), arrived, is_last };
        let reused = start(server, stream, settings.take(), request, limits, is_closing).await?;
        let switched = exit.and_then(|exit| exit.lock().take());
        let (client, next) = reused.consume();
        let client = client.into_any().downcast::<HttpStream<Layers>>().ok()?;
        if let Some(switched) = switched {
            let client = client.into_layers().into_inner().into_stream();
            return Some(Upgraded { client, to_target, switched });
        }
        if !to_target.is_empty() {
            return None;
        }
        (stream, settings) = (client, next);
    }
}

/// One request, of which `head` and perhaps more is read.
struct Request {
    head: BytesMut,
    arrived: Arrived,
    is_last: bool,
}

/// Lets pingora serve one request.
fn start<'a>(
    server: &'a Server,
    stream: Stream,
    settings: Option<HttpPersistentSettings>,
    request: Request,
    limits: ClientLimits,
    is_closing: &'a ShutdownWatch,
) -> Serving<'a> {
    let Request { head, arrived, is_last } = request;
    let mut session = ServerSession::new_http1(stream);
    match settings {
        Some(settings) => settings.apply_to_session(&mut session),
        None => session.set_keepalive(Some(limits.idle.as_secs())),
    }
    if is_last {
        // What the client says about keeping the connection is read with the head, and this stands above it.
        session.set_keepalive_reuses_remaining(Some(0));
    }
    session.set_read_timeout(limits.body);
    session.set_total_drain_timeout(Some(DRAIN_TIME));
    session.set_write_timeout(Some(limits.write));
    session.set_pipelined_prefix(head);
    session.set_connection_user_context(Some(Box::new(arrived)));
    server.proxy.process_new_http(session, is_closing)
}

/// A head that was read and judged.
struct ReadHead {
    length: usize,
    judged: Judged,
    /// When its first byte came.
    began: Instant,
}

/// Why a connection brings no further request.
#[derive(Debug, thiserror::Error)]
enum NoRequest {
    /// The client has nothing more to ask.
    #[error("no further request")]
    Over,
    /// A head has begun and does not end.
    #[error("a head took longer than {0:?}")]
    TooSlow(Duration),
    /// A head has begun and cannot be read.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A whole head breaks a rule.
    #[error("{0}")]
    Malformed(Rule),
}

/// A head that is being read. The connection counts as idle meanwhile, so the end of its port or of the edge drops it.
struct Begun<'a> {
    records: &'a Arc<Records>,
    connection: &'a Arc<Connection>,
    is_over: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.records.begin(self.connection, Spoken::Http1).end(EndedBy::Cut, None);
        }
    }
}

/// Waits for a request, reads its head and judges it.
async fn next_head<S: AsyncRead + Unpin>(
    server: &Server,
    connection: &Arc<Connection>,
    stream: &mut S,
    head: &mut BytesMut,
    limits: ClientLimits,
) -> Result<ReadHead, NoRequest> {
    // It may have come with the request before.
    if head.is_empty() {
        match timeout(limits.idle, read_some(stream, head)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) | Err(_) => return Err(NoRequest::Over),
        }
    }
    let began = Instant::now();
    // Nearly every head is whole with its first bytes, and needs no timer.
    let length = match read_head(stream, head, Message::Request).now_or_never() {
        Some(whole) => whole?,
        None => {
            let mut begun = Begun { records: &server.shared.records, connection, is_over: false };
            let reading = timeout(limits.head, read_head(stream, head, Message::Request)).await;
            begun.is_over = true;
            reading.map_err(|_| NoRequest::TooSlow(limits.head))??
        }
    };
    let judged = judge_http1(head.get(..length).unwrap_or_default()).map_err(NoRequest::Malformed)?;
    Ok(ReadHead { length, judged, began })
}

/// Ends a connection that brings no further request. There is nobody yet who could answer what is no request.
async fn end(
    server: &Server,
    connection: &Arc<Connection>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    why: &NoRequest,
    head: &[u8],
) {
    let records = &server.shared.records;
    let problem = match why {
        NoRequest::Over => return,
        NoRequest::Head(HeadError::Ended | HeadError::Failed(_)) => {
            let mut recording = records.begin(connection, Spoken::Http1);
            return recording.end(EndedBy::Client, Some(Fault::Client));
        }
        NoRequest::TooSlow(_) => Problem::HeadTimeout,
        NoRequest::Head(HeadError::TooLong | HeadError::NotHttp) => Problem::Malformed(judge_start(head)),
        NoRequest::Malformed(rule) => Problem::Malformed(*rule),
    };
    let detail = match problem {
        Problem::Malformed(rule) => rule.to_string(),
        _ => why.to_string(),
    };
    refuse::answer(stream, connection, records, head, Refused::new(problem, detail)).await;
}
