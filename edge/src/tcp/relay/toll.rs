//! Holds one direction of a relay to the bandwidth of its circuit.
//!
//! Invariant: what was read waits for its time before it is written, and nothing more is read meanwhile.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::{Sleep, sleep_until};

use crate::rate::{Bandwidth, Booking, Way};

/// What is read at once: a quarter of a second of the smallest bandwidth, so that connections take turns.
pub(super) const PIECE_BYTES: usize = 16 * 1024;

/// One direction of one relay.
pub(super) struct Toll {
    bandwidth: Arc<Bandwidth>,
    way: Way,
    /// What is held back, and until when.
    held_back: Option<(Booking, Pin<Box<Sleep>>)>,
}

// === impl Toll ===

impl Toll {
    /// A direction that nothing has passed yet.
    pub(super) fn new(bandwidth: Arc<Bandwidth>, way: Way) -> Self {
        Self { bandwidth, way, held_back: None }
    }

    /// So many bytes have been read: whether they may pass at once.
    pub(super) fn book(&mut self, bytes: usize) -> bool {
        self.held_back = self.bandwidth.book(self.way, bytes).map(|booking| {
            let timer = Box::pin(sleep_until(booking.at()));
            (booking, timer)
        });
        self.held_back.is_none()
    }

    /// Whether something waits for its time.
    pub(super) fn is_holding_back(&self) -> bool {
        self.held_back.is_some()
    }

    /// Ready when nothing waits for its time any more.
    pub(super) fn poll_pass(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some((_, timer)) = &mut self.held_back {
            ready!(timer.as_mut().poll(context));
            self.held_back = None;
        }
        Poll::Ready(())
    }
}
