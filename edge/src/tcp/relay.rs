//! Carries bytes both ways between two streams, as they come.
//!
//! Invariant: an idle relay holds no buffer and no pipe. While one side does not accept, one buffer or one pipe of what
//! the other has sent is held and nothing more is read. The end of each direction is passed on by itself, and a failure as a
//! failure.

mod direction;
mod pipe;
mod toll;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection::ClientStream;
use crate::metrics::{Counter, CounterOf, metrics};
use crate::rate::{Bandwidth, Way};
use crate::socket::reset;
use direction::Direction;
use toll::Toll;

/// How long one direction may carry nothing after the other has ended: longer than any program waits for the rest of an
/// answer, short enough that peers that vanished after a half-close do not pile up.
const HALF_OPEN_TIME: Duration = Duration::from_secs(300);

/// How long a pipe is kept for more; pipes of all busy relays together are bounded by the descriptors.
const PIPE_KEEP_TIME: Duration = Duration::from_secs(1);

metrics! {
    /// What relays carry, counted while it flows.
    pub(crate) struct RelayMetrics {
        bytes: CounterOf<Way> = ("relayed_bytes_total", "Bytes that relays have carried"),
        copies: Counter = ("relay_copies_total", "Times that bytes were copied for want of a pipe"),
    }
}

/// One side of a relay.
pub(crate) trait Peer: AsyncRead + AsyncWrite + Unpin {
    /// The socket, if bytes may pass it without being seen.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    /// The other side has failed: this one must not take what was cut short for something whole.
    fn reset(&self) {}
}

/// Bytes that are there already when the relay begins.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// For the target.
    pub(crate) to_target: Vec<u8>,
    /// For the client.
    pub(crate) to_client: Vec<u8>,
}

/// Time limits of a relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelayRules {
    /// How long it may carry nothing in either direction.
    pub(crate) idle: Option<Duration>,
    /// The same after one direction has ended.
    pub(crate) half_open: Duration,
}

/// Why a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both directions have.
    Finished,
    /// Nothing was carried for too long.
    Idle,
    /// Nothing was carried for too long after one direction had ended.
    HalfOpen,
    /// One side failed.
    Failed {
        /// Which.
        side: Side,
        /// How.
        error: io::Error,
    },
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Whoever connected.
    Client,
    /// Whom the edge connected to.
    Target,
}

/// What failed while bytes went from one side to the other.
#[derive(Debug)]
enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

/// Both directions.
pub(crate) struct Relay<C, T> {
    client: C,
    target: T,
    to_target: Direction,
    to_client: Direction,
    rules: RelayRules,
    last: Instant,
    /// Armed for what was due when it was armed; it looks again when it goes off.
    timer: Option<Pin<Box<Sleep>>>,
    metrics: Arc<RelayMetrics>,
}

// === impl RelayRules ===

impl Default for RelayRules {
    fn default() -> Self {
        Self { idle: None, half_open: HALF_OPEN_TIME }
    }
}

// === impl Peer ===

impl Peer for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn reset(&self) {
        reset(self);
    }
}

impl Peer for ClientStream {
    fn socket(&self) -> Option<&TcpStream> {
        self.bare_socket()
    }

    fn reset(&self) {
        ClientStream::reset(self);
    }
}

// === impl Relay ===

impl<C: Peer, T: Peer> Relay<C, T> {
    /// A relay between two streams that have both been opened; it counts in `metrics`.
    pub(crate) fn new(client: C, target: T, early: Early, rules: RelayRules, metrics: Arc<RelayMetrics>) -> Self {
        Self {
            client,
            target,
            to_target: Direction::new(early.to_target),
            to_client: Direction::new(early.to_client),
            rules,
            last: Instant::now(),
            timer: None,
            metrics,
        }
    }

    /// The same, held to this bandwidth.
    #[must_use]
    pub(crate) fn within(mut self, bandwidth: Option<Arc<Bandwidth>>) -> Self {
        if let Some(bandwidth) = bandwidth {
            self.to_target.hold_to(Toll::new(Arc::clone(&bandwidth), Way::ToTarget));
            self.to_client.hold_to(Toll::new(bandwidth, Way::ToClient));
        }
        self
    }

    /// Ends both sides as `end` asks.
    fn end(&self, end: End) -> End {
        if let End::Failed { .. } = end {
            self.client.reset();
            self.target.reset();
        }
        end
    }

    /// Bytes that the target, and that the client, has taken so far.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.to_target.bytes(), self.to_client.bytes()]
    }

    /// Carries what can be carried now.
    fn carry(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let before = self.bytes();
        let carried = self.carry_both(context);
        let [to_target, to_client] = self.bytes();
        let new = [to_target - before[0], to_client - before[1]];
        if new != [0, 0] {
            self.last = Instant::now();
            self.metrics.bytes.add(Way::ToTarget, new[0]);
            self.metrics.bytes.add(Way::ToClient, new[1]);
        }
        carried
    }

    fn carry_both(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let blame = |fault, from, to| match fault {
            Fault::Reading(error) => End::Failed { side: from, error },
            Fault::Writing(error) => End::Failed { side: to, error },
        };
        if let Poll::Ready(Err(fault)) = self.to_target.poll(context, &mut self.client, &mut self.target, &self.metrics)
        {
            return Poll::Ready(blame(fault, Side::Client, Side::Target));
        }
        if let Poll::Ready(Err(fault)) = self.to_client.poll(context, &mut self.target, &mut self.client, &self.metrics)
        {
            return Poll::Ready(blame(fault, Side::Target, Side::Client));
        }
        if self.to_target.is_done() && self.to_client.is_done() { Poll::Ready(End::Finished) } else { Poll::Pending }
    }

    /// When something has to happen if nothing else does.
    fn due(&self) -> Option<Instant> {
        let is_half_open = self.to_target.is_done() || self.to_client.is_done();
        let half_open = is_half_open.then_some(self.rules.half_open);
        let has_pipe = self.to_target.has_idle_pipe() || self.to_client.has_idle_pipe();
        let pipe = has_pipe.then_some(PIPE_KEEP_TIME);
        let wait = [self.rules.idle, half_open, pipe].into_iter().flatten().min()?;
        Some(self.last + wait)
    }

    /// Ready when a limit is reached.
    fn poll_limits(&mut self, context: &mut Context<'_>) -> Poll<End> {
        loop {
            let Some(due) = self.due() else {
                self.timer = None;
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if self.to_target.is_held_back() || self.to_client.is_held_back() {
                // It is not the peers that are silent.
                self.last = Instant::now();
            }
            let silent = self.last.elapsed();
            if self.rules.idle.is_some_and(|limit| silent >= limit) {
                return Poll::Ready(End::Idle);
            }
            let is_half_open = self.to_target.is_done() || self.to_client.is_done();
            if is_half_open && silent >= self.rules.half_open {
                return Poll::Ready(End::HalfOpen);
            }
            if silent >= PIPE_KEEP_TIME {
                self.to_target.give_pipe_back();
                self.to_client.give_pipe_back();
            }
        }
    }
}

impl<C: Peer, T: Peer> Future for Relay<C, T> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        if let Poll::Ready(end) = this.carry(context) {
            return Poll::Ready(this.end(end));
        }
        this.poll_limits(context).map(|end| this.end(end))
    }
}

#[cfg(test)]
mod tests;
