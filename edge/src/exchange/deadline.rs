//! One timer for all deadlines of a connection.
//!
//! Invariant: it is armed anew only for an earlier deadline, or when it has gone off: nearly all deadlines are moved on long
//! before they are reached, and moving them costs nothing.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer.
#[derive(Default)]
pub(crate) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
}

// === impl Deadline ===

impl Deadline {
    /// Ready when `due` has come. To be polled by the connection's own task.
    pub(super) fn poll(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_is_reached_where_it_is_last() {
        let (mut deadline, began) = (Deadline::default(), Instant::now());
        let second = Duration::from_secs(1);
        let mut due = began + 5 * second;
        poll_fn(|context| deadline.poll(due, context)).await;
        assert_eq!(began.elapsed(), 5 * second);
        due = began + 60 * second;
        let early = tokio::time::timeout(10 * second, poll_fn(|context| deadline.poll(due, context))).await;
        assert!(early.is_err());
        due = began + 20 * second;
        poll_fn(|context| deadline.poll(due, context)).await;
        assert_eq!(began.elapsed(), 20 * second);
        due = began + 61 * second;
        poll_fn(|context| deadline.poll(due, context)).await;
        assert_eq!(began.elapsed(), 61 * second);
    }
}
