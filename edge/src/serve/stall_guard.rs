//! A stream that notices when its client stops reading.
//!
//! Invariant: bytes pass unchanged; a stream whose writes go on has no place among the stalled ones.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use crate::limits::STALL_TIME;

/// The stream.
pub(super) struct StallGuard<S> {
    inner: S,
    places: Arc<Semaphore>,
    waiting: Option<Waiting>,
}

/// A write that waits.
struct Waiting {
    timer: Pin<Box<Sleep>>,
    place: Option<OwnedSemaphorePermit>,
}

// === impl StallGuard ===

impl<S> StallGuard<S> {
    /// Watches `inner`; there are so many `places` for clients that have stopped reading.
    pub(super) fn new(inner: S, places: Arc<Semaphore>) -> Self {
        Self { inner, places, waiting: None }
    }

    /// The stream below the watch.
    pub(super) fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The stream without the watch.
    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// Passes `outcome` on, unless it waits and there is no place to wait: then the write fails for want of time.
    fn watch<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let waiting = self.waiting.get_or_insert_with(|| Waiting { timer: Box::pin(sleep(STALL_TIME)), place: None });
        if waiting.place.is_none() && waiting.timer.as_mut().poll(context).is_ready() {
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => waiting.place = Some(place),
                Err(_) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.watch(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.watch(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// A stream of a client that takes 16 bytes and no more until it reads, and the client.
    fn pair(places: &Arc<Semaphore>) -> (StallGuard<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(16);
        (StallGuard::new(ours, Arc::clone(places)), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_takes_a_place_and_gives_it_back_when_it_goes_on() {
        let places = Arc::new(Semaphore::new(1));
        let (mut stream, mut client) = pair(&places);
        let writing = tokio::spawn(async move { stream.write_all(&[0; 32]).await.map(|()| stream) });
        tokio::time::sleep(STALL_TIME / 2).await;
        assert_eq!(places.available_permits(), 1, "a moment is no stall");
        tokio::time::sleep(STALL_TIME).await;
        assert_eq!(places.available_permits(), 0);
        client.read_exact(&mut [0; 32]).await.expect("bytes");
        let _stream = writing.await.expect("no panic").expect("written");
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_when_there_is_no_place_is_ended() {
        let places = Arc::new(Semaphore::new(1));
        let (mut first, _slow) = pair(&places);
        let (mut second, _slower) = pair(&places);
        let holding = tokio::spawn(async move { first.write_all(&[0; 32]).await });
        tokio::time::sleep(STALL_TIME * 2).await;
        let began = Instant::now();
        let error = second.write_all(&[0; 32]).await.expect_err("no place");
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, STALL_TIME.as_secs()));
        assert!(!holding.is_finished());
        holding.abort();
    }
}
