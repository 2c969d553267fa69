//! A connection whose other end must keep up a pace.
//!
//! Invariant: a head that was begun is whole within its time, and a write that the other end does not take fails within
//! its own. While a request is being answered only the latter counts: bodies and answers have their time elsewhere.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::refusals::Refusal;

/// Where a connection is: even while it waits for a head, odd while a request is being answered.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

/// Ends the answer when it is dropped.
pub(super) struct Answering<'a>(&'a Pace);

/// The connection.
pub(super) struct Paced<S, F> {
    stream: S,
    pace: Arc<Pace>,
    head_timeout: Duration,
    write_timeout: Duration,
    /// For which head the time runs.
    head: Option<(u64, Pin<Box<Sleep>>)>,
    write: Option<Pin<Box<Sleep>>>,
    on_slow: F,
}

// === impl Pace ===

impl Pace {
    /// A request was read; what comes until the guard is dropped is no head.
    pub(super) fn begin_answer(&self) -> Answering<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        Answering(self)
    }

    fn stage(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}

// === impl Paced ===

impl<S, F: Fn(Refusal)> Paced<S, F> {
    /// The first head must come from the start; `on_slow` hears what was too slow.
    pub(super) fn new(stream: S, pace: Arc<Pace>, head_timeout: Duration, write_timeout: Duration, on_slow: F) -> Self {
        let head = Some((pace.stage(), Box::pin(tokio::time::sleep(head_timeout))));
        Self { stream, pace, head_timeout, write_timeout, head, write: None, on_slow }
    }

    /// Forgets the time of a head that is whole.
    fn current_head(&mut self) -> &mut Option<(u64, Pin<Box<Sleep>>)> {
        let stage = self.pace.stage();
        if self.head.as_ref().is_some_and(|(of, _)| *of != stage) {
            self.head = None;
        }
        &mut self.head
    }

    fn too_slow(&self, refusal: Refusal) -> io::Error {
        (self.on_slow)(refusal);
        io::Error::new(io::ErrorKind::TimedOut, refusal.as_str())
    }

    /// A write that waits has its time.
    fn paced_write<T>(&mut self, context: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.write = None;
            return wrote;
        }
        let limit = self.write_timeout;
        let timer = self.write.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(self.too_slow(Refusal::WriteTimeout)))
    }
}

impl<S: AsyncRead + Unpin, F: Fn(Refusal) + Unpin> AsyncRead for Paced<S, F> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let has_come = buffer.filled().len() > before;
        let stage = this.pace.stage();
        let is_awaiting_head = stage.is_multiple_of(2);
        let limit = this.head_timeout;
        let head = this.current_head();
        if has_come && is_awaiting_head && head.is_none() {
            *head = Some((stage, Box::pin(tokio::time::sleep(limit))));
        }
        // A timer that stands is one of a head that is not whole.
        if let Some((_, timer)) = head
            && timer.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(this.too_slow(Refusal::HeadTimeout)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, F: Fn(Refusal) + Unpin> AsyncWrite for Paced<S, F> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.paced_write(context, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.paced_write(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.paced_write(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = Pin::new(&mut this.stream).poll_shutdown(context);
        this.paced_write(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use testkit::wait::within;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    type Noted = Arc<Mutex<Vec<Refusal>>>;

    fn paced() -> (DuplexStream, Paced<DuplexStream, impl Fn(Refusal) + Unpin>, Arc<Pace>, Noted) {
        let (near, far) = tokio::io::duplex(64);
        let (pace, noted) = (Arc::new(Pace::default()), Noted::default());
        let notes = Arc::clone(&noted);
        let on_slow = move |refusal| notes.lock().expect("no panic").push(refusal);
        (near, Paced::new(far, Arc::clone(&pace), LIMIT, LIMIT, on_slow), pace, noted)
    }

    #[tokio::test]
    async fn a_head_that_comes_in_drops_has_one_time_for_all_of_them() {
        let (mut client, mut paced, _pace, noted) = paced();
        let began = tokio::time::Instant::now();
        let dripping = async {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(LIMIT / 4).await;
            }
        };
        let reading = async { while paced.read_u8().await.is_ok() {} };
        let reading = async {
            tokio::select! {
                () = dripping => panic!("the writer cannot notice"),
                () = reading => {}
            }
        };
        within("the end of the connection", reading).await;
        assert!(began.elapsed() >= LIMIT, "{:?}", began.elapsed());
        assert_eq!(*noted.lock().expect("no panic"), [Refusal::HeadTimeout]);
    }

    #[tokio::test]
    async fn a_body_and_idleness_are_no_head() {
        let (mut client, mut paced, pace, noted) = paced();
        client.write_all(b"head").await.expect("room");
        paced.read_exact(&mut [0; 4]).await.expect("in time");
        let answering = pace.begin_answer();
        tokio::time::sleep(LIMIT * 2).await;
        client.write_all(b"body").await.expect("room");
        paced.read_exact(&mut [0; 4]).await.expect("no head");
        drop(answering);
        let idle = tokio::time::timeout(LIMIT * 2, paced.read_u8()).await;
        assert!(idle.is_err(), "idleness is measured elsewhere: {idle:?}");
        client.write_all(b"h").await.expect("room");
        paced.read_u8().await.expect("the next head has its whole time");
        let error = within("the end", paced.read_u8()).await.expect_err("too slow");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(*noted.lock().expect("no panic"), [Refusal::HeadTimeout]);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_fails() {
        let (client, mut paced, pace, noted) = paced();
        let _answering = pace.begin_answer();
        let error = within("the end", paced.write_all(&[0; 65])).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(*noted.lock().expect("no panic"), [Refusal::WriteTimeout]);
        drop(client);
    }
}
