//! One client connection, as the rest of the edge sees it: where it came in, what it is doing, whether it must end.
//!
//! Invariant: [`Connection::cut_request`] ends the connection only while it serves the very request that was named.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use entities::ids::Port;
use futures_util::task::AtomicWaker;
use http::HeaderValue;

use super::AnswerWait;

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
    /// Whether it came when there was no memory for it: it is told so and nothing else.
    pub(crate) is_shed: bool,
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

/// Which socket accepted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// The traffic port: circuits by `Host`.
    Traffic,
    /// The port of one circuit.
    Port(Port),
}

/// Who is at the other end, with the field values that say so prepared once for all requests of the connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The address; an IPv4 client of an IPv6 socket is an IPv4 client.
    pub(crate) ip: IpAddr,
    /// For `X-Forwarded-For`.
    pub(crate) ip_value: HeaderValue,
    /// Whether it is a proxy that may speak for others.
    pub(crate) is_trusted_proxy: bool,
    /// Whether somebody is behind it of whom nothing is known: what its address may do is not theirs.
    pub(crate) is_hidden: bool,
    /// The address as a node of `Forwarded` (RFC 7239 §6): `10.0.0.1` or `"[2001:db8::1]"`.
    pub(crate) node: String,
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

// === impl Client ===

impl Client {
    /// The client at `ip`.
    pub(crate) fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let text = ip.to_string();
        let node = match ip {
            IpAddr::V4(_) => text.clone(),
            IpAddr::V6(_) => {
                let mut node = String::with_capacity(text.len() + 4);
                // Writing to a string does not fail.
                let _ = write!(node, "\"[{text}]\"");
                node
            }
        };
        // An address is made of characters that a field value may have.
        let ip_value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { ip, ip_value, is_trusted_proxy: false, is_hidden: false, node }
    }
}

// === impl Connection ===

impl Connection {
    /// A connection that has just been accepted.
    pub(crate) fn new(number: u64, entrance: Entrance, client: impl Into<Arc<Client>>) -> Self {
        Self {
            number,
            entrance,
            client: client.into(),
            is_shed: false,
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
    pub(crate) fn stream(&self, number: u64) -> Self {
        Self { is_shed: self.is_shed, ..Self::new(number, self.entrance, Arc::clone(&self.client)) }
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
    pub(super) fn is_at(&self, identity: u64) -> bool {
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
        Connection::new(1, Entrance::Traffic, Client::new("10.0.0.1".parse().expect("valid")))
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

    #[test]
    fn nodes_are_quoted_as_rfc_7239_asks() {
        let node = |ip: &str| Client::new(ip.parse().expect("valid")).node;
        assert_eq!(node("10.0.0.1"), "10.0.0.1");
        assert_eq!(node("2001:db8::1"), "\"[2001:db8::1]\"");
        assert_eq!(node("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
