//! A stream whose frames are metered as they pass.
//!
//! Invariant: bytes pass unchanged; once the meter has found abuse nothing more is read, so that whoever serves the
//! connection can say why it ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::guard::{Abuse, Meter};

/// What the stream and whoever serves it share.
pub(super) struct Gauge {
    meter: Mutex<Meter>,
    /// Abuse was found, or something waits for room.
    changed: Notify,
}

/// The stream.
pub(super) struct Metered<S> {
    inner: S,
    gauge: Arc<Gauge>,
}

// === impl Gauge ===

impl Gauge {
    /// Nothing has passed yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { meter: Mutex::new(Meter::new(Instant::now())), changed: Notify::new() })
    }

    /// Why the connection should end.
    pub(super) fn abuse(&self) -> Option<Abuse> {
        self.meter.lock().abuse()
    }

    /// Whether streams that begin now have hardly room for an answer.
    pub(super) fn has_tiny_windows(&self) -> bool {
        self.meter.lock().has_tiny_windows()
    }

    /// Whether something waits for room.
    pub(super) fn is_starved(&self) -> bool {
        self.meter.lock().is_starved()
    }

    /// How many streams have been waiting for room since `before`.
    pub(super) fn stalled(&self, before: Instant) -> usize {
        self.meter.lock().stalled(before)
    }

    /// There is no place for another reader that has stopped.
    pub(super) fn note_stalled(&self) {
        self.meter.lock().note_stalled();
    }

    /// Until there is something new to ask for.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn sent(&self, slices: &[IoSlice<'_>], mut count: usize) {
        let now = Instant::now();
        let mut meter = self.meter.lock();
        let was_starved = meter.is_starved();
        for slice in slices {
            let part = slice.get(..count.min(slice.len())).unwrap_or_default();
            meter.sent(part, now);
            count -= part.len();
        }
        if meter.abuse().is_some() || (!was_starved && meter.is_starved()) {
            self.changed.notify_one();
        }
    }
}

// === impl Metered ===

impl<S> Metered<S> {
    /// Meters `inner`, on which the preface comes next, on `gauge`.
    pub(super) fn new(inner: S, gauge: Arc<Gauge>) -> Self {
        Self { inner, gauge }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gauge.abuse().is_some() {
            // Whoever serves it has been told.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let mut meter = self.gauge.meter.lock();
        meter.received(buffer.filled().get(before..).unwrap_or_default(), Instant::now());
        if meter.abuse().is_some() {
            self.gauge.changed.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.gauge.sent(&[IoSlice::new(bytes)], count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, slices))?;
        self.gauge.sent(slices, count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
