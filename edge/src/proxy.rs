//! The phases of a request, one file a concern; this one says which concern has a say in which phase.
//!
//! Invariant: nothing is forwarded before [`Decider::look_up`] has let it pass.

mod faults;
mod forwarding;
mod phase;
mod reply;
mod response;
mod target;
mod upgrade;

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};

use crate::decide::{ArrivedStream, Decider, RequestContext, Verdict};
use crate::rate::{Booking, Way};
use crate::record::RedactedPath;
use phase::Phase;

/// Idle connections to targets, for each thread; a pool smaller than the concurrency costs more than half of the
/// speed.
const POOL_SIZE_PER_THREAD: usize = 2048;

/// How often pingora may begin anew with one request: the circuit has its own limit, and this one is for connections that
/// targets closed just before they were to be used again.
const MAX_TRIES: usize = 2 * entities::limits::MAX_ATTEMPTS as usize;

/// What pingora calls in each phase of a request.
pub(crate) struct EdgeProxy {
    decider: Arc<Decider>,
}

/// The one proxy of an edge, shared by all of its ports: each would cost 1.8 MiB.
pub(crate) type SharedProxy = Arc<HttpProxy<EdgeProxy>>;

// === impl EdgeProxy ===

impl EdgeProxy {
    /// The one proxy of an edge, which asks `decider`.
    pub(crate) fn shared(decider: Arc<Decider>) -> SharedProxy {
        let settings = ServerConf {
            threads: available_parallelism().map_or(1, usize::from),
            upstream_keepalive_pool_size: POOL_SIZE_PER_THREAD,
            max_retries: MAX_TRIES,
            ..ServerConf::default()
        };
        Arc::new(http_proxy(&Arc::new(settings), Self { decider }))
    }
}

/// The context of a request that the door has handed over; there is no other.
fn known(context: &mut Option<RequestContext>) -> Result<&mut RequestContext> {
    context.as_mut().ok_or_else(|| Error::explain(ErrorType::InternalError, "a request that the door does not know"))
}

/// The request has ended; `error` is what it failed with, if it did.
fn finish(mut context: RequestContext, session: &Session, error: Option<&Error>) {
    context.recording.status = reply::status(session).map(|status| status.as_u16());
    match error {
        // Answering the fault has said whose it was.
        Some(error) => context.recording.fail(error),
        None => context.recording.succeed(),
    }
}

#[async_trait]
impl ProxyHttp for EdgeProxy {
    type CTX = Option<RequestContext>;

    fn new_ctx(&self) -> Option<RequestContext> {
        None
    }

    /// Pingora hands on what a connection keeps between requests; here it is what the door knows about this one.
    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        context: &mut Option<RequestContext>,
        arrived: Box<dyn Any + Send + Sync>,
    ) {
        let arrived = arrived.downcast().ok();
        *context = arrived.map(|arrived| RequestContext::begin(*arrived));
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // None: compression is the target's business.
    }

    fn early_request_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        context: &'life2 mut Option<RequestContext>,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: 'async_trait,
    {
        if context.is_none() {
            // A stream of HTTP/2 keeps nothing between requests; the door has left a note in its head.
            let arrived = session.req_header_mut().extensions_mut().remove::<ArrivedStream>();
            *context = arrived.and_then(|arrived| arrived.take()).map(RequestContext::begin);
        }
        phase::done(Ok(()))
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Option<RequestContext>) -> Result<bool> {
        let request = known(context)?;
        let head: &Parts = session.req_header();
        request.recording.path = head.uri.path_and_query().cloned().map(RedactedPath::of);
        match self.decider.look_up(head, request) {
            Ok(Verdict::Forward) if session.is_upgrade_req() => {
                // Boxed: what few requests do must not make the future of every request larger.
                Box::pin(self.upgrade(session, context)).await
            }
            Ok(Verdict::Forward) => Ok(false),
            Ok(Verdict::Ask(endpoint)) => {
                // Boxed: a wait for half a minute must not make the future of every request larger.
                let answer = Box::pin(self.decider.ask(head, endpoint, request)).await;
                reply::answer(session, answer, request).await?;
                Ok(true)
            }
            Ok(Verdict::Answer(answer)) => {
                reply::answer(session, answer, request).await?;
                Ok(true)
            }
            Err(refused) => {
                reply::refuse(session, refused, request).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut Option<RequestContext>,
    ) -> Result<Box<HttpPeer>> {
        self.choose_target(session, known(context)?).await
    }

    fn upstream_request_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        request: &'life2 mut RequestHeader,
        context: &'life3 mut Option<RequestContext>,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        phase::done(known(context).and_then(|context| forwarding::edit_request(session, request, context)))
    }

    fn response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        response: &'life2 mut ResponseHeader,
        context: &'life3 mut Option<RequestContext>,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        let context = match known(context) {
            Ok(context) => context,
            Err(error) => return phase::done(Err(error)),
        };
        context.connection().answer.stop();
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // Requests for another protocol have left by now, so nobody has asked for one (RFC 9110 §7.8).
            let error = Error::explain(ErrorType::InvalidHTTPHeader, "a target that switches to an unasked protocol");
            return phase::done(Err(error.into_up()));
        }
        if !response.status.is_informational() {
            context.note_answer();
            // From now on the target knows how long it waits for the rest of the content.
            session.as_downstream_mut().set_read_timeout(None);
        }
        self.edit_response(session, response, context);
        phase::done(Ok(()))
    }

    fn request_body_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        body: &'life2 mut Option<Bytes>,
        _is_end: bool,
        context: &'life3 mut Option<RequestContext>,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        let context = match known(context) {
            Ok(context) => context,
            Err(error) => return phase::done(Err(error)),
        };
        if let Err(error) = self.judge_pace(session, body.as_ref(), context) {
            return phase::done(Err(error));
        }
        let booking = context.book(Way::ToTarget, body.as_ref());
        context.go_on_waiting(booking.as_ref().map(Booking::at));
        match booking {
            None => phase::done(Ok(())),
            Some(booking) => Box::pin(async {
                booking.pass().await;
                Ok(())
            }),
        }
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _is_end: bool,
        context: &mut Option<RequestContext>,
    ) -> Result<Option<Duration>> {
        Ok(known(context)?.hold_back(body.as_ref()))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Option<RequestContext>,
        error: Box<Error>,
    ) -> Box<Error> {
        match context {
            Some(context) => self.try_next_target(context, error),
            None => error,
        }
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut Option<RequestContext>,
        is_reused: bool,
    ) -> Box<Error> {
        match context {
            Some(context) => self.target_broke_off(peer, session, error, context, is_reused),
            None => error,
        }
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Option<RequestContext>,
    ) -> FailToProxy {
        match context {
            Some(context) => self.answer_fault(session, error, context).await,
            None => FailToProxy { error_code: 0, can_reuse_downstream: false },
        }
    }

    fn suppress_error_log(&self, _session: &Session, _context: &Option<RequestContext>, _error: &Error) -> bool {
        // `faults` and `target` log, with whose fault it was.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _context: &Option<RequestContext>,
        _error: &Error,
        _place: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn logging<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        error: Option<&'life2 Error>,
        context: &'life3 mut Option<RequestContext>,
    ) -> Phase<'async_trait, ()>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        // A tunnel has taken its record along.
        if let Some(context) = context.take() {
            finish(context, session, error);
        }
        phase::logged()
    }

    // What follows does nothing, as the default does, and allocates nothing.

    fn proxy_upstream_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _context: &'life2 mut Option<RequestContext>,
    ) -> Phase<'async_trait, Result<bool>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: 'async_trait,
    {
        phase::go_on()
    }

    fn connected_to_upstream<'life0, 'life1, 'life2, 'life3, 'life4, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _is_reused: bool,
        _peer: &'life2 HttpPeer,
        socket: RawFd,
        _digest: Option<&'life3 Digest>,
        context: &'life4 mut Option<RequestContext>,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        'life4: 'async_trait,
        Self: 'async_trait,
    {
        phase::done(known(context).map(|context| context.wait_for_answer(socket)))
    }

    fn upstream_response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _response: &'life2 mut ResponseHeader,
        _context: &'life3 mut Option<RequestContext>,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        phase::done(Ok(()))
    }
}
