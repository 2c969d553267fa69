//! The requests of one HTTP/1 connection, one after the other.
//!
//! Invariant: between two requests nothing is alive but the stream: no request, no buffer. A head has a time limit and a
//! size limit, and the guard has judged it, before pingora sees a byte.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp as _, ReusedHttpStream};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::time::timeout;

use super::accept::ServingContext;
use super::proxy::{SharedProxy, with_upgrade};
use super::refuse;
use crate::circuit::Connection;
use crate::config::ClientLimits;
use crate::guard::{Judged, Rule, judge_http1, judge_start};
use crate::head::{HeadError, Message, read_head, read_some};
use crate::refusals::Refusal;
use crate::reply::Problem;
use crate::request_id::RequestId;
use crate::tunnel::Switched;

/// How long content that its target did not want may still come, before the connection ends instead.
const DRAIN_TIME: Duration = Duration::from_secs(30);

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

/// Serves requests of `connection` until it ends or becomes a tunnel.
pub(super) async fn serve(
    mut stream: Stream,
    connection: &Connection,
    proxy: &SharedProxy,
    context: &ServingContext,
    shutdown: &ShutdownWatch,
) -> Option<Upgraded> {
    let limits = context.client;
    let mut settings = None;
    let mut requests = 0;
    loop {
        let mut head = BytesMut::new();
        let judged = match next_head(&mut stream, &mut head, limits).await {
            Ok(judged) => judged,
            Err(fault) => {
                // Boxed, as it must not make the future of every connection larger.
                Box::pin(refuse_fault(stream, &fault, &head, connection, context)).await;
                return None;
            }
        };
        requests += 1;
        let is_last = requests == limits.max_requests;
        let (length, Judged { is_bare_upgrade, .. }) = judged;
        if is_bare_upgrade {
            // Whatever stands behind such a head is not HTTP if the target agrees, and nothing at all if it does not.
            let to_target = head.split_off(length);
            let serving = start(proxy, stream, settings.take(), head, limits, is_last, shutdown);
            let upgrading: Served<'_, _> = Box::pin(with_upgrade(serving));
            let (reused, switched) = upgrading.await;
            let (client, next) = reused?.consume();
            match switched {
                Some(switched) => return Some(Upgraded { client, to_target, switched }),
                None if to_target.is_empty() => (stream, settings) = (client, next),
                None => return None,
            }
        } else {
            let serving = start(proxy, stream, settings.take(), head, limits, is_last, shutdown);
            (stream, settings) = serving.await?.consume();
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
    is_last: bool,
    shutdown: &'a ShutdownWatch,
) -> Served<'a, Option<ReusedHttpStream>> {
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
    /// A head has begun and cannot be read.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A whole head breaks a rule.
    #[error("{0}")]
    Malformed(Rule),
}

/// Waits for a request, reads its head and judges it; the answer has its length.
async fn next_head(stream: &mut Stream, head: &mut BytesMut, limits: ClientLimits) -> Result<(usize, Judged), Fault> {
    match timeout(limits.idle, read_some(stream, head)).await {
        Ok(Ok(1..)) => {}
        Ok(Ok(0) | Err(_)) | Err(_) => return Err(Fault::Over),
    }
    // Nearly every head is whole with its first bytes, and needs no timer.
    let length = match read_head(stream, head, Message::Request).now_or_never() {
        Some(whole) => whole?,
        None => {
            let reading = timeout(limits.head, read_head(stream, head, Message::Request)).await;
            reading.map_err(|_| Fault::TooSlow(limits.head))??
        }
    };
    let judged = judge_http1(head.get(..length).unwrap_or_default()).map_err(Fault::Malformed)?;
    Ok((length, judged))
}

/// Answers what is no request. There is nobody yet who could.
async fn refuse_fault(stream: Stream, fault: &Fault, head: &[u8], connection: &Connection, context: &ServingContext) {
    let problem = match fault {
        Fault::Over | Fault::Head(HeadError::Ended | HeadError::Failed(_)) => return,
        Fault::TooSlow(_) => Problem::HeadTimeout,
        Fault::Head(HeadError::TooLong | HeadError::NotHttp) => Problem::Malformed(judge_start(head)),
        Fault::Malformed(rule) => Problem::Malformed(*rule),
    };
    let refusal = match problem {
        Problem::HeadTimeout => Refusal::HeadTimeout,
        Problem::Malformed(rule) => refuse::refusal_of(rule),
        _ => Refusal::Malformed,
    };
    let id = RequestId::next();
    match problem {
        Problem::Malformed(rule) => context.refusals.note_request(refusal, connection.client.ip, None, &id, rule),
        _ => context.refusals.note_request(refusal, connection.client.ip, None, &id, fault),
    }
    refuse::answer(stream, problem, head, &id, context).await;
}
