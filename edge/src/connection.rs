//! One client connection, as the rest of the edge sees it: who is at its other end, where it came in, what it is doing,
//! whether it must end.
//!
//! Invariant: [`Connection::cut_request`] ends the connection only while it serves the very request that was named.

mod answer;
mod entrance;
mod stream;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::client::Client;
pub(crate) use answer::AnswerWait;
pub(crate) use entrance::{Entrance, EntrancePort};
pub(crate) use stream::ClientStream;
pub use stream::{Secure, SecuredStream, Security};

/// Numbers of connections, unique in the process.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A client connection, or one stream of an HTTP/2 connection. Its own task polls [`Connection::poll_end`]; everybody else
/// only leaves notices.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Tells connections apart.
    pub(crate) number: u64,
    /// Which socket accepted it.
    pub(crate) entrance: Entrance,
    /// Who is at the other end.
    pub(crate) client: Arc<Client>,
    /// The connection that this is a stream of.
    parent: Option<Arc<Connection>>,
    /// Whether it came when there was no memory for it: it is told so and nothing else.
    is_shed: AtomicBool,
    /// How many requests it has brought.
    started: AtomicU64,
    /// The request that is being served; 0 while there is none.
    serving: AtomicU64,
    /// The request with which the connection must end; 0 while there is none.
    cut: AtomicU64,
    notice: AtomicU8,
    /// The identity of the target that its request is at.
    target: AtomicU64,
    /// The answer that its request waits for.
    pub(crate) answer: AnswerWait,
    waker: AtomicWaker,
}

/// A connection that serves a request; dropping it makes the connection idle.
#[derive(Debug)]
pub(crate) struct Busy {
    /// The connection.
    pub(crate) connection: Arc<Connection>,
    /// The request's number on it.
    pub(crate) request: u64,
}

/// What a connection is told. A later notice is at least as strong as an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Notice {
    /// Go on.
    Stay = 0,
    /// End between requests; a connection that has not brought any may still bring its first.
    EndWhenIdle = 1,
    /// End unless a request is being served, and after it.
    EndUnlessBusy = 2,
    /// End now.
    Cut = 3,
}

// === impl Connection ===

impl Connection {
    /// A connection that has just been accepted.
    pub(crate) fn new(entrance: Entrance, client: impl Into<Arc<Client>>) -> Self {
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            entrance,
            client: client.into(),
            parent: None,
            is_shed: AtomicBool::new(false),
            started: AtomicU64::new(0),
            serving: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            notice: AtomicU8::new(Notice::Stay as u8),
            target: AtomicU64::new(0),
            answer: AnswerWait::default(),
            waker: AtomicWaker::new(),
        }
    }

    /// A stream of this connection, which has one request and ends alone.
    pub(crate) fn stream(self: &Arc<Self>) -> Self {
        Self { parent: Some(Arc::clone(self)), ..Self::new(self.entrance, Arc::clone(&self.client)) }
    }

    /// There is no memory for it.
    pub(crate) fn shed(&self) {
        self.is_shed.store(true, Ordering::Release);
    }

    /// Whether it came when there was no memory for it.
    pub(crate) fn is_shed(&self) -> bool {
        let own = self.is_shed.load(Ordering::Acquire);
        own || self.parent.as_ref().is_some_and(|parent| parent.is_shed())
    }

    /// Its task has read the head of a request; the answer names the request.
    pub(crate) fn begin_request(&self) -> u64 {
        let request = self.started.fetch_add(1, Ordering::AcqRel) + 1;
        self.serving.store(request, Ordering::Release);
        request
    }

    /// Its task is done with the request.
    pub(crate) fn end_request(&self) {
        self.answer.stop();
        self.serving.store(0, Ordering::Release);
    }

    /// Its request is at this target from now on.
    pub(crate) fn set_target(&self, identity: u64) {
        self.target.store(identity, Ordering::Release);
    }

    /// Whether its request is at this target, or was before it was over.
    pub(crate) fn is_at(&self, identity: u64) -> bool {
        self.target.load(Ordering::Acquire) == identity
    }

    /// Leaves a notice.
    pub(crate) fn notify(&self, notice: Notice) {
        self.notice.fetch_max(notice as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Ends the connection if it still serves `request`.
    pub(crate) fn cut_request(&self, request: u64) {
        self.cut.store(request, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection will end after the request that it serves.
    pub(crate) fn is_ending(&self) -> bool {
        self.notice.load(Ordering::Acquire) != Notice::Stay as u8
    }

    /// Whether what ends now ends because the connection was told to, not because its client went.
    pub(crate) fn is_cut(&self) -> bool {
        let serving = self.serving.load(Ordering::Acquire);
        let own = self.notice.load(Ordering::Acquire) == Notice::Cut as u8
            || (serving != 0 && self.cut.load(Ordering::Acquire) == serving);
        own || self.parent.as_ref().is_some_and(|parent| parent.is_cut())
    }

    /// Ready with what the connection is told once that is more than `known`. To be polled by its own task.
    pub(crate) fn poll_notice(&self, known: Notice, context: &mut Context<'_>) -> Poll<Notice> {
        self.waker.register(context.waker());
        let notice = match self.notice.load(Ordering::Acquire) {
            0 => Notice::Stay,
            1 => Notice::EndWhenIdle,
            2 => Notice::EndUnlessBusy,
            _ => Notice::Cut,
        };
        if notice > known { Poll::Ready(notice) } else { Poll::Pending }
    }

    /// Does `work` to its end, or drops it and answers `None` when the connection must end.
    pub(crate) async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        // Work first: a request that is there already is served even if a notice came with it.
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => self.poll_end(context).map(|()| None),
        })
        .await
    }

    /// Ready when the connection must end. To be polled by its own task, after its work.
    pub(crate) fn poll_end(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        self.answer.poll(context);
        let serving = self.serving.load(Ordering::Acquire);
        let is_idle = serving == 0;
        let notice = self.notice.load(Ordering::Acquire);
        let must_end = if notice == Notice::Cut as u8 {
            true
        } else if notice == Notice::EndUnlessBusy as u8 {
            is_idle
        } else if notice == Notice::EndWhenIdle as u8 {
            is_idle && self.started.load(Ordering::Acquire) > 0
        } else {
            false
        };
        let is_cut = !is_idle && self.cut.load(Ordering::Acquire) == serving;
        if must_end || is_cut { Poll::Ready(()) } else { Poll::Pending }
    }
}

// === impl Busy ===

impl Busy {
    /// The connection serves a new request from now on.
    pub(crate) fn begin(connection: Arc<Connection>) -> Self {
        let request = connection.begin_request();
        Self { connection, request }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connection.end_request();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn connection() -> Connection {
        Connection::new(Entrance::TRAFFIC, Client::new("10.0.0.1".parse().expect("valid")))
    }

    fn must_end(connection: &Connection) -> bool {
        connection.poll_end(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn an_idle_connection_ends_at_the_first_notice_and_a_busy_one_after_its_request() {
        let connection = connection();
        assert!(!must_end(&connection));
        connection.begin_request();
        connection.notify(Notice::EndWhenIdle);
        assert!(!must_end(&connection));
        connection.end_request();
        assert!(must_end(&connection));
    }

    #[test]
    fn a_connection_without_a_request_yet_may_bring_its_first() {
        let connection = connection();
        connection.notify(Notice::EndWhenIdle);
        assert!(!must_end(&connection));
        connection.notify(Notice::EndUnlessBusy);
        assert!(must_end(&connection));
    }

    #[test]
    fn cutting_a_request_that_is_over_spares_the_next_one() {
        let connection = connection();
        let first = connection.begin_request();
        connection.end_request();
        connection.begin_request();
        connection.cut_request(first);
        assert!(!must_end(&connection));
        let third = {
            connection.end_request();
            connection.begin_request()
        };
        connection.cut_request(third);
        assert!(must_end(&connection));
    }

    #[test]
    fn a_weaker_notice_does_not_take_a_stronger_one_back() {
        let connection = connection();
        connection.notify(Notice::Cut);
        connection.notify(Notice::EndWhenIdle);
        assert!(must_end(&connection));
    }
}
