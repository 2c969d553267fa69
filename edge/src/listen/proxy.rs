//! The phases of a request, one file a concern; this one says which concern has a say in which phase.
//!
//! Invariant: nothing is forwarded before `look_up` has found a circuit and noted that the connection serves it.

mod admission;
mod context;
mod faults;
mod forwarding;
mod look_up;
mod phase;
mod reply;
mod response;
mod target;
mod upgrade;

use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};

use crate::access::Authorizer;
use crate::api::Api;
use crate::circuit::Entrance;
use crate::client::Peers;
use crate::config::ClientLimits;
use crate::freshness::Freshness;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::rate::{Booking, Way};
use crate::refusals::Refusals;
use crate::table::Table;
pub(super) use context::CONNECTION;
use context::RequestContext;
use phase::Phase;
pub(super) use upgrade::with_upgrade;

/// Idle connections to targets, for each thread; a pool smaller than the concurrency costs more than half of the
/// speed.
const POOL_SIZE_PER_THREAD: usize = 2048;

/// How often pingora may begin anew with one request: the circuit has its own limit, and this one is for connections that
/// targets closed just before they were to be used again.
const MAX_TRIES: usize = 2 * entities::limits::MAX_ATTEMPTS as usize;

/// What pingora calls in each phase of a request.
pub(crate) struct EdgeProxy {
    /// Where circuits are.
    pub(crate) table: Arc<Table>,
    /// What the edge itself is asked.
    pub(crate) api: Api,
    /// Whether circuits may still be used.
    pub(crate) freshness: Arc<Freshness>,
    /// Who may use them.
    pub(crate) authorizer: Authorizer,
    /// Who may speak for others.
    pub(crate) peers: Arc<Peers>,
    /// Whether there is enough of it.
    pub(crate) memory: Arc<Memory>,
    /// What is turned away.
    pub(crate) refusals: Arc<Refusals>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// What clients may take.
    pub(crate) client: ClientLimits,
}

/// The one proxy of an edge, shared by all of its ports.
pub(crate) type SharedProxy = Arc<PortProxy>;

/// What ports need to serve their connections.
pub(crate) struct PortProxy {
    http: Arc<HttpProxy<EdgeProxy>>,
    table: Arc<Table>,
}

// === impl PortProxy ===

impl PortProxy {
    /// Whether clients may speak HTTP/2 without TLS to this entrance.
    pub(super) fn has_http2(&self, entrance: Entrance) -> bool {
        let Entrance::Port(port) = entrance else { return false };
        self.table.by_port(port).is_some_and(|circuit| circuit.protocol.is_http2_in_front())
    }
}

impl Deref for PortProxy {
    type Target = Arc<HttpProxy<EdgeProxy>>;

    fn deref(&self) -> &Self::Target {
        &self.http
    }
}

// === impl EdgeProxy ===

impl EdgeProxy {
    /// The one proxy of an edge.
    pub(crate) fn shared(self) -> SharedProxy {
        let settings = ServerConf {
            threads: available_parallelism().map_or(1, usize::from),
            upstream_keepalive_pool_size: POOL_SIZE_PER_THREAD,
            max_retries: MAX_TRIES,
            ..ServerConf::default()
        };
        let table = Arc::clone(&self.table);
        Arc::new(PortProxy { http: Arc::new(http_proxy(&Arc::new(settings), self)), table })
    }
}

#[async_trait]
impl ProxyHttp for EdgeProxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::begin()
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // None: compression is the target's business.
    }

    async fn request_filter(&self, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
        if self.look_up(session, context).await? {
            return Ok(true);
        }
        if session.is_upgrade_req() {
            // Boxed: what few requests do must not make the future of every request larger.
            return Box::pin(self.upgrade(session, context)).await;
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        self.choose_target(session, context).await
    }

    fn upstream_request_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        request: &'life2 mut RequestHeader,
        context: &'life3 mut RequestContext,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        phase::done(forwarding::edit_request(session, request, context))
    }

    fn response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        response: &'life2 mut ResponseHeader,
        context: &'life3 mut RequestContext,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        if let Some(busy) = &context.connection {
            busy.connection.answer.stop();
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
        context: &'life3 mut RequestContext,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
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
        context: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        Ok(context.hold_back(body.as_ref()))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut RequestContext,
        error: Box<Error>,
    ) -> Box<Error> {
        self.try_next_target(context, error)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut RequestContext,
        is_reused: bool,
    ) -> Box<Error> {
        self.target_broke_off(peer, session, error, context, is_reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut RequestContext) -> FailToProxy {
        self.answer_fault(session, error, context).await
    }

    fn suppress_error_log(&self, _session: &Session, _context: &RequestContext, _error: &Error) -> bool {
        // `faults` and `target` log, with whose fault it was.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _context: &RequestContext,
        _error: &Error,
        _place: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn logging<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        error: Option<&'life2 Error>,
        context: &'life3 mut RequestContext,
    ) -> Phase<'async_trait, ()>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        let written = session.response_written().map(|response| response.status.as_u16());
        let status = context.tunnel_status().or(written);
        self.metrics.count_request(status);
        context.log(session, status, error);
        phase::logged()
    }

    // What follows does nothing, as the default does, and allocates nothing.

    fn early_request_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _context: &'life2 mut RequestContext,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: 'async_trait,
    {
        phase::done(Ok(()))
    }

    fn proxy_upstream_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _context: &'life2 mut RequestContext,
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
        context: &'life4 mut RequestContext,
    ) -> Phase<'async_trait, Result<()>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        'life4: 'async_trait,
        Self: 'async_trait,
    {
        context.wait_for_answer(socket);
        phase::done(Ok(()))
    }

    fn upstream_response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _response: &'life2 mut ResponseHeader,
        _context: &'life3 mut RequestContext,
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
