//! A stream whose frames are metered as they pass.
//!
//! Invariant: bytes pass unchanged; once the meter has found abuse nothing more is read, so that whoever serves the
//! connection can say why it ends.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
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
pub(super) struct Metered {
    inner: Stream,
    gauge: Arc<Gauge>,
}

// === impl Gauge ===

impl Gauge {
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

impl Metered {
    /// Meters `inner`, on which the preface comes next.
    pub(super) fn new(inner: Stream) -> (Self, Arc<Gauge>) {
        let gauge = Arc::new(Gauge { meter: Mutex::new(Meter::new(Instant::now())), changed: Notify::new() });
        (Self { inner, gauge: Arc::clone(&gauge) }, gauge)
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metered").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl AsyncRead for Metered {
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

impl AsyncWrite for Metered {
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

// What pingora asks of a stream.

#[async_trait]
impl Shutdown for Metered {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(self.inner.as_mut()).await;
    }
}

impl UniqueID for Metered {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Metered {}

impl Peek for Metered {}

impl GetTimingDigest for Metered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Metered {
    fn get_proxy_digest(&self) -> Option<Arc<pingora_core::protocols::raw_connect::ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Metered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}
