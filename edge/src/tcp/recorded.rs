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

/// A relay that is ready to carry. It may go on for days, so it holds nothing else.
pub(crate) struct OpenRelay<C: Peer, T: Peer> {
    /// Carries the bytes.
    pub(crate) relay: Recorded<C, T>,
    /// Its circuit knows it by this.
    pub(crate) open: OpenRequest,
    /// Its target knows it by this, if there are several.
    pub(crate) hold: Option<Hold>,
    /// Its connection counts as busy by this.
    pub(crate) busy: Busy,
}

/// Carries bytes, and is recorded when that ends.
pub(crate) struct Recorded<C: Peer, T: Peer> {
    relay: Relay<C, T>,
    recording: Box<Recording>,
}

// === impl OpenRelay ===

impl<C: Peer, T: Peer> OpenRelay<C, T> {
    /// Carries bytes until both directions have ended, or the connection must.
    pub(crate) async fn run(self) {
        let Self { relay, open, hold, busy } = self;
        busy.connection.unless_ended(relay).await;
        drop((open, hold));
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
