//! One direction of a relay.
//!
//! Invariant: bytes arrive in their order, each once; the source is read only when nothing of it is held.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::pipe::Pipe;
use super::toll::{PIECE_BYTES, Toll};
use super::{Fault, Peer, RelayMetrics};

/// What is copied at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// So many bytes read at once say that more will follow: a pipe pays off.
const MANY_BYTES: usize = SCRATCH_BYTES / 2;

/// Bytes of one direction before the other tasks of the thread get a turn.
const TURN_BYTES: u64 = 1024 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// From one side to the other.
pub(super) struct Direction {
    /// Read and not yet accepted, from `position` on.
    held: Vec<u8>,
    position: usize,
    pipe: Option<Pipe>,
    wants_pipe: bool,
    /// Something was written that may stand in a buffer.
    needs_flush: bool,
    has_ended: bool,
    is_done: bool,
    bytes: u64,
    /// Set if the bandwidth has a limit.
    toll: Option<Box<Toll>>,
}

// === impl Direction ===

impl Direction {
    /// A direction that begins with `early`.
    pub(super) fn new(early: Vec<u8>) -> Self {
        Self {
            needs_flush: !early.is_empty(),
            held: early,
            position: 0,
            pipe: None,
            wants_pipe: false,
            has_ended: false,
            is_done: false,
            bytes: 0,
            toll: None,
        }
    }

    /// Lets nothing pass from now on before its time.
    pub(super) fn hold_to(&mut self, toll: Toll) {
        self.toll = Some(Box::new(toll));
    }

    /// Whether something waits for its time.
    pub(super) fn is_held_back(&self) -> bool {
        self.toll.as_ref().is_some_and(|toll| toll.is_holding_back())
    }

    /// How many bytes were accepted.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether its end has been passed on.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether it keeps a pipe that holds nothing.
    pub(super) fn has_idle_pipe(&self) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| pipe.filled() == 0)
    }

    /// Others may use its pipe, if it holds nothing.
    pub(super) fn give_pipe_back(&mut self) {
        if self.has_idle_pipe() {
            self.pipe = None;
            self.wants_pipe = false;
        }
    }

    /// Carries what can be carried now; ready when the direction is done.
    pub(super) fn poll<R: Peer, W: Peer>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        metrics: &RelayMetrics,
    ) -> Poll<Result<(), Fault>> {
        let turn_ends_at = self.bytes + TURN_BYTES;
        while !self.is_done {
            if self.bytes >= turn_ends_at {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(toll) = &mut self.toll {
                ready!(toll.poll_pass(context));
            }
            ready!(self.write_held(context, to)).map_err(Fault::Writing)?;
            if let (Some(from), Some(to)) = (from.socket(), to.socket()) {
                if self.wants_pipe && self.pipe.is_none() && !self.has_ended {
                    self.pipe = Pipe::take();
                    self.wants_pipe = false;
                    if self.pipe.is_none() {
                        metrics.copies.inc();
                    }
                }
                if let Some(pipe) = &mut self.pipe {
                    ready!(drain(pipe, context, to, &mut self.bytes)).map_err(Fault::Writing)?;
                    if !self.has_ended {
                        let count = ready!(fill(pipe, context, from)).map_err(Fault::Reading)?;
                        self.has_ended = count == 0;
                        continue;
                    }
                }
            }
            if self.has_ended {
                self.pipe = None;
                match ready!(Pin::new(&mut *to).poll_shutdown(context)) {
                    // It has gone already.
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                        return Poll::Ready(Err(Fault::Writing(error)));
                    }
                    _ => self.is_done = true,
                }
            } else {
                ready!(self.copy(context, from, to))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is held.
    fn write_held<W: Peer>(&mut self, context: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.position..).filter(|rest| !rest.is_empty()) {
            let count = ready!(write(context, to, rest))?;
            self.position += count;
            self.bytes += count as u64;
        }
        if self.position > 0 {
            self.held = Vec::new();
            self.position = 0;
        }
        if self.needs_flush {
            ready!(Pin::new(to).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Copies what one read brings.
    fn copy<R: Peer, W: Peer>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Fault>> {
        SCRATCH.with_borrow_mut(|scratch| {
            // Pieces that small never ask for a pipe.
            let limit = if self.toll.is_some() { PIECE_BYTES } else { SCRATCH_BYTES };
            let mut read = ReadBuf::new(scratch.get_mut(..limit).unwrap_or_default());
            ready!(Pin::new(from).poll_read(context, &mut read)).map_err(Fault::Reading)?;
            let mut rest = read.filled();
            self.has_ended = rest.is_empty();
            self.wants_pipe = rest.len() >= MANY_BYTES;
            self.needs_flush = true;
            if let Some(toll) = self.toll.as_mut().filter(|_| !rest.is_empty())
                && !toll.book(rest.len())
            {
                self.held = rest.to_vec();
                return Poll::Ready(Ok(()));
            }
            while !rest.is_empty() {
                match write(context, to, rest) {
                    Poll::Ready(Ok(count)) => {
                        self.bytes += count as u64;
                        rest = rest.get(count..).unwrap_or_default();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Writing(error))),
                    Poll::Pending => {
                        self.held = rest.to_vec();
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

fn write<W: AsyncWrite + Unpin>(context: &mut Context<'_>, to: &mut W, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(context, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        count => Poll::Ready(Ok(count)),
    }
}

/// Empties the pipe.
fn drain(pipe: &mut Pipe, context: &mut Context<'_>, to: &TcpStream, bytes: &mut u64) -> Poll<io::Result<()>> {
    while pipe.filled() > 0 {
        ready!(to.poll_write_ready(context))?;
        match to.try_io(tokio::io::Interest::WRITABLE, || pipe.drain(to)) {
            Ok(count) => *bytes += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

/// Fills the pipe, which is empty; 0 is the end of the source.
fn fill(pipe: &mut Pipe, context: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
    loop {
        ready!(from.poll_read_ready(context))?;
        match from.try_io(tokio::io::Interest::READABLE, || pipe.fill(from)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
    }
}
