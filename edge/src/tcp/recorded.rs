//! A relay with all that it belongs to: its record, its circuit, its target, its connection.
//!
//! Invariant: the record has the bytes that were carried, whether the relay came to its end or was cut.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::relay::{End, Peer, Relay, Side};
use crate::balance::Hold;
use crate::circuit::OpenRequest;
use crate::connection::Busy;
use crate::record::{EndedBy, Recording};
use crate::refusal::Fault;

/// A relay that is ready to carry. It may go on for days, so it holds nothing else. What it holds goes in this order.
pub(crate) struct OpenRelay<C: Peer, T: Peer> {
    relay: Recorded<C, T>,
    _open: OpenRequest,
    _hold: Option<Hold>,
    busy: Busy,
}

/// Carries bytes, and is recorded when that ends.
pub(crate) struct Recorded<C: Peer, T: Peer> {
    relay: Relay<C, T>,
    recording: Box<Recording>,
}

// === impl OpenRelay ===

impl<C: Peer, T: Peer> OpenRelay<C, T> {
    /// Its circuit knows `relay` by `open`, its target by `hold`, if there are several; its connection counts as busy by `busy`.
    pub(crate) fn new(relay: Recorded<C, T>, open: OpenRequest, hold: Option<Hold>, busy: Busy) -> Self {
        Self { relay, _open: open, _hold: hold, busy }
    }
}

impl<C: Peer, T: Peer> Future for OpenRelay<C, T> {
    type Output = ();

    /// Carries bytes until both directions have ended, or the connection must. Written by hand: an `async fn` keeps a relay
    /// once for each place that it moves through.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // Work first: bytes that are there already are carried even if a notice came with them.
        match Pin::new(&mut this.relay).poll(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => this.busy.connection.poll_end(context),
        }
    }
}

// === impl Recorded ===

impl<C: Peer, T: Peer> Recorded<C, T> {
    /// Will fill `recording` with what becomes of `relay`.
    pub(crate) fn new(relay: Relay<C, T>, mut recording: Box<Recording>) -> Self {
        recording.compact();
        Self { relay, recording }
    }

    fn note(&mut self, end: End) {
        let (ended_by, fault) = match &end {
            End::Finished => (EndedBy::Finished, None),
            End::Idle => (EndedBy::Idle, None),
            End::HalfOpen => (EndedBy::HalfOpen, None),
            End::Failed { side: Side::Client, .. } => (EndedBy::Client, Some(Fault::Client)),
            End::Failed { side: Side::Target, .. } => (EndedBy::Target, Some(Fault::Target)),
        };
        self.recording.end(ended_by, fault);
        if let End::Failed { error, .. } = end {
            self.recording.error = Some(error.to_string().into());
        }
    }
}

impl<C: Peer, T: Peer> Future for Recorded<C, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let end = ready!(Pin::new(&mut this.relay).poll(context));
        this.note(end);
        Poll::Ready(())
    }
}

impl<C: Peer, T: Peer> Drop for Recorded<C, T> {
    fn drop(&mut self) {
        let [to_target, to_client] = self.relay.bytes();
        self.recording.bytes_to_target = to_target;
        self.recording.bytes_to_client = to_client;
    }
}
