//! Carries bytes both ways between two streams, as they come.
//!
//! Invariant: an idle relay holds no buffer and no pipe. While one side does not accept, one buffer or one pipe of what
//! the other has sent is held and nothing more is read. The end of each direction is passed on by itself, and a failure as a
//! failure.

mod direction;
mod pipe;
mod socket;
mod toll;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use entities::ids::CircuitKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::rate::{Bandwidth, Way};
use direction::Direction;
pub(crate) use pipe::copies;
pub(crate) use socket::duplicate;
use toll::Toll;

/// How long one direction may carry nothing after the other has ended: longer than any program waits for the rest of an
/// answer, short enough that peers that vanished after a half-close do not pile up.
const HALF_OPEN_TIME: Duration = Duration::from_secs(300);

/// How long a pipe is kept for more; pipes of all busy relays together are bounded by the descriptors.
const PIPE_KEEP_TIME: Duration = Duration::from_secs(1);

/// One side of a relay.
pub(crate) trait Peer: AsyncRead + AsyncWrite + Unpin {
    /// The socket, if bytes may pass it without being seen.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
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

/// How a relay ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Bytes that the target took.
    pub(crate) to_target: u64,
    /// Bytes that the client took.
    pub(crate) to_client: u64,
    /// Why.
    pub(crate) end: End,
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
}

// === impl End ===

impl End {
    /// Whose fault it was and what happened, if it was a fault.
    pub(crate) fn fault(&self) -> Option<(&'static str, &io::Error)> {
        match self {
            Self::Failed { side: Side::Client, error } => Some(("client", error)),
            Self::Failed { side: Side::Target, error } => Some(("target", error)),
            Self::Finished | Self::Idle | Self::HalfOpen => None,
        }
    }

    /// The word in logs and labels.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Idle => "idle",
            Self::HalfOpen => "half_open",
            Self::Failed { side: Side::Client, .. } => "client",
            Self::Failed { side: Side::Target, .. } => "target",
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// One line for one relay of the circuit `key`.
    pub(crate) fn log(&self, key: &CircuitKey, client: IpAddr, kind: &'static str) {
        let Self { to_target, to_client, end } = self;
        let (fault, error) = end.fault().unzip();
        tracing::debug!(
            %key, %client, kind, to_target, to_client, end = end.as_str(), fault,
            error = error.map(tracing::field::display), "a relay ended"
        );
    }
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
}

// === impl Relay ===

impl<C: Peer, T: Peer> Relay<C, T> {
    /// A relay between two streams that have both been opened.
    pub(crate) fn new(client: C, target: T, early: Early, rules: RelayRules) -> Self {
        Self {
            client,
            target,
            to_target: Direction::new(early.to_target),
            to_client: Direction::new(early.to_client),
            rules,
            last: Instant::now(),
            timer: None,
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

    fn outcome(&self, end: End) -> Outcome {
        if let End::Failed { .. } = end {
            // The other side must not take what was cut short for something whole.
            for socket in [self.client.socket(), self.target.socket()].into_iter().flatten() {
                // A socket that does not take the option ends as if it were whole: nothing better is left.
                let _ = socket.set_zero_linger();
            }
        }
        Outcome { to_target: self.to_target.bytes(), to_client: self.to_client.bytes(), end }
    }

    /// Carries what can be carried now.
    fn carry(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let before = self.to_target.bytes() + self.to_client.bytes();
        let blame = |fault, from, to| match fault {
            Fault::Reading(error) => End::Failed { side: from, error },
            Fault::Writing(error) => End::Failed { side: to, error },
        };
        if let Poll::Ready(Err(fault)) = self.to_target.poll(context, &mut self.client, &mut self.target) {
            return Poll::Ready(blame(fault, Side::Client, Side::Target));
        }
        if let Poll::Ready(Err(fault)) = self.to_client.poll(context, &mut self.target, &mut self.client) {
            return Poll::Ready(blame(fault, Side::Target, Side::Client));
        }
        if self.to_target.bytes() + self.to_client.bytes() != before {
            self.last = Instant::now();
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
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        if let Poll::Ready(end) = this.carry(context) {
            return Poll::Ready(this.outcome(end));
        }
        this.poll_limits(context).map(|end| this.outcome(end))
    }
}

#[cfg(test)]
mod tests;
