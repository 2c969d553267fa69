//! Waits for a target to begin its answer, for no longer than the circuit's limit.
//!
//! Pingora has one time limit for every read from a target, which would also end a silent stream of events; so its
//! socket is shut down from outside when the answer does not begin, and pingora sees the target break off.
//!
//! Invariant: a socket is shut down only while the request that waits at it is being served; whoever ends that wait says
//! so before the socket is given back or closed.

use std::future::Future as _;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

/// The wait of one connection, which has one request at a time.
#[derive(Debug, Default)]
pub(crate) struct AnswerWait {
    state: Mutex<State>,
    is_overdue: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    awaited: Option<(Instant, RawFd)>,
    /// Armed for this wait or an earlier one: most answers come long before, so the timer is left alone and asks again
    /// when it goes off.
    timer: Option<Pin<Box<Sleep>>>,
}

// === impl AnswerWait ===

impl AnswerWait {
    /// The target at `socket` should begin its answer by `until`.
    pub(crate) fn start(&self, until: Instant, socket: RawFd) {
        self.is_overdue.store(false, Ordering::Release);
        self.state.lock().awaited = Some((until, socket));
    }

    /// The request goes on: the answer may come as late as `until`.
    pub(crate) fn extend(&self, until: Instant) {
        if let Some((before, _)) = &mut self.state.lock().awaited {
            *before = until;
        }
    }

    /// The answer has begun, or is not awaited any more.
    pub(crate) fn stop(&self) {
        self.state.lock().awaited = None;
    }

    /// Whether the last wait was too long.
    pub(crate) fn is_overdue(&self) -> bool {
        self.is_overdue.load(Ordering::Acquire)
    }

    /// To be polled by the connection's own task.
    pub(super) fn poll(&self, context: &mut Context<'_>) {
        let mut guard = self.state.lock();
        let State { awaited, timer } = &mut *guard;
        loop {
            match (*awaited, timer.as_mut()) {
                (None, None) => return,
                (Some((until, _)), None) => *timer = Some(Box::pin(sleep_until(until))),
                (None, Some(armed)) => {
                    if armed.as_mut().poll(context).is_pending() {
                        return;
                    }
                    *timer = None;
                }
                (Some((until, socket)), Some(armed)) => {
                    if until < armed.deadline() {
                        armed.as_mut().reset(until);
                    }
                    if armed.as_mut().poll(context).is_pending() {
                        return;
                    }
                    *timer = None;
                    if until <= Instant::now() {
                        *awaited = None;
                        self.is_overdue.store(true, Ordering::Release);
                        // A socket that is not connected any more has broken off by itself.
                        let _ = shutdown(socket, Shutdown::Both);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;
    use std::task::{Poll, Waker};
    use std::time::Duration;

    use super::*;

    async fn until_overdue(wait: &AnswerWait) {
        poll_fn(|context| {
            wait.poll(context);
            if wait.is_overdue() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_is_shut_down_when_its_answer_is_overdue() {
        let (mut ours, _theirs) = UnixStream::pair().expect("a pair");
        let wait = AnswerWait::default();
        let began = Instant::now();
        wait.start(began + Duration::from_secs(5), ours.as_raw_fd());
        until_overdue(&wait).await;
        assert!(began.elapsed() >= Duration::from_secs(5));
        assert_eq!(ours.read(&mut [0; 1]).expect("the end"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_stopped_shuts_nothing_down_and_the_next_one_counts_anew() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a socket");
        let wait = AnswerWait::default();
        let mut context = Context::from_waker(Waker::noop());
        wait.start(Instant::now() + Duration::from_secs(5), ours.as_raw_fd());
        wait.poll(&mut context);
        wait.stop();
        tokio::time::advance(Duration::from_secs(3)).await;
        let began = Instant::now();
        wait.start(began + Duration::from_secs(5), ours.as_raw_fd());
        tokio::time::advance(Duration::from_secs(3)).await;
        wait.poll(&mut context);
        let error = (&ours).read(&mut [0; 1]).expect_err("the socket is open");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        until_overdue(&wait).await;
        assert!(began.elapsed() >= Duration::from_secs(5));
    }
}
