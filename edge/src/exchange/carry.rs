//! Carries one request to a target and its answer back, both ways at once.
//!
//! Invariant: nothing is read from one side while the other has not taken what was read before, so at most one thread's buffer is
//! held for each direction. Whatever comes behind a message stays behind it.

mod download;
mod upload;

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::broken::Broken;
use super::deadline::Deadline;
use super::framing::{Decoder, Encoder, Framing};
use super::request::Asked;
use crate::circuit::LiveCircuit;
use crate::connection::ClientStream;
use crate::decide::RequestContext;
use crate::guard::{MAX_HEAD_BYTES, Pace};
use crate::limits::STALL_TIME;
use crate::shared::Shared;

/// What is read at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Content that is held so that the request can be sent once more.
const MAX_RESENT_BYTES: usize = 64 * 1024;

/// What a client may send behind a request that is not answered yet.
const MAX_EARLY_BYTES: usize = MAX_HEAD_BYTES;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// What a connection of a client keeps from one request to the next.
#[derive(Default)]
pub(crate) struct Kept {
    pub(super) deadline: Deadline,
}

/// What an exchange is carried with.
pub(super) struct Sides<'a> {
    pub(super) client: &'a mut ClientStream,
    /// What has been read of the client: first the content of this request, then the next ones.
    pub(super) early: &'a mut BytesMut,
    pub(super) target: &'a mut TcpStream,
    pub(super) kept: &'a mut Kept,
    pub(super) context: &'a mut RequestContext,
    pub(super) circuit: &'a LiveCircuit,
    pub(super) shared: &'a Shared,
    pub(super) stalled: &'a Arc<Semaphore>,
}

/// How far an exchange is.
pub(super) struct Carrier<'a> {
    asked: &'a Asked,
    /// The head for the target, and how much of it was sent.
    head: &'a [u8],
    head_sent: usize,
    upload: Decoder,
    upload_encoder: Encoder,
    /// Content for the target, and how much of it was sent. While the request may begin again, all of it stays.
    to_target: Vec<u8>,
    to_target_sent: usize,
    may_begin_again: bool,
    /// The target takes no more of the request; it may answer all the same.
    is_upload_broken: bool,
    /// Whether any content has come.
    has_content: bool,
    /// How long content may come that is not wanted any more.
    drains_until: Option<Instant>,
    has_upload_ended: bool,
    /// The head of the answer as far as it has come.
    partial: Vec<u8>,
    interim: usize,
    answer: Option<Answer>,
    to_client: Vec<u8>,
    to_client_sent: usize,
    /// Whether something of the final answer has gone to the client.
    has_given: bool,
    /// Whether the edge would keep the client's connection.
    may_keep: bool,
    pace: Option<Pace>,
    /// When something was last sent to the target, came from the client, was taken by the client.
    last_sent: Instant,
    last_received: Instant,
    last_taken: Instant,
    stall: Option<OwnedSemaphorePermit>,
}

/// An answer that has begun.
struct Answer {
    content: Decoder,
    encoder: Encoder,
    keeps: bool,
    target_keeps: bool,
    has_ended: bool,
    passes_trailers: bool,
    is_until_close: bool,
}

/// An exchange that came to its end.
pub(super) struct Finished {
    /// Whether the client's connection may bring another request.
    pub(super) keeps: bool,
    /// Whether the target's connection may carry another one.
    pub(super) target_keeps: bool,
}

// === impl Carrier ===

impl<'a> Carrier<'a> {
    /// Nothing is sent yet.
    pub(super) fn new(asked: &'a Asked, head: &'a [u8], may_keep: bool) -> Self {
        let now = Instant::now();
        Self {
            asked,
            head,
            head_sent: 0,
            upload: Decoder::new(asked.content),
            upload_encoder: Encoder::new(asked.content),
            to_target: Vec::new(),
            to_target_sent: 0,
            may_begin_again: asked.is_idempotent,
            is_upload_broken: false,
            has_content: false,
            drains_until: None,
            has_upload_ended: asked.content == Framing::None,
            partial: Vec::new(),
            interim: 0,
            answer: None,
            to_client: Vec::new(),
            to_client_sent: 0,
            has_given: false,
            may_keep,
            pace: None,
            last_sent: now,
            last_received: now,
            last_taken: now,
            stall: None,
        }
    }

    /// Whether the client has begun to get an answer, so that it cannot get another one. Informational ones that have passed
    /// whole only announce it (RFC 9110 §15.2).
    pub(super) fn has_answer(&self) -> bool {
        self.has_given || self.to_client_sent > 0
    }

    /// Whether the request can be sent to another target, whole.
    pub(super) fn may_begin_again(&self) -> bool {
        self.may_begin_again && self.answer.is_none() && self.interim == 0
    }

    /// Sends everything once more, to another connection.
    pub(super) fn begin_again(&mut self) {
        (self.head_sent, self.to_target_sent, self.is_upload_broken) = (0, 0, false);
        self.partial.clear();
        self.last_sent = Instant::now();
    }

    /// Whether the client can see by the framing that the answer is not whole.
    pub(super) fn is_framed(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| !answer.is_until_close)
    }

    /// Carries what can be carried now.
    pub(super) fn poll(&mut self, sides: &mut Sides<'_>, context: &mut Context<'_>) -> Poll<Result<Finished, Broken>> {
        if self.drains_until.is_none() {
            self.carry_up(sides, context)?;
            if let Poll::Ready(finished) = self.carry_down(sides, context)? {
                return Poll::Ready(Ok(finished));
            }
        }
        // The answer may have ended just now: what is still to come of the content is thrown away.
        if self.drains_until.is_some() && (self.carry_up(sides, context).is_err() || self.upload.is_done()) {
            return Poll::Ready(Ok(Finished { keeps: false, target_keeps: false }));
        }
        // An answer that has begun may have made the client's silence unimportant, or taken bytes that were waited for.
        self.poll_limits(sides, context)
    }

    /// Ready when a limit is reached.
    fn poll_limits(&mut self, sides: &mut Sides<'_>, context: &mut Context<'_>) -> Poll<Result<Finished, Broken>> {
        loop {
            let is_giving = self.to_client_sent < self.to_client.len();
            let is_awaited = self.answer.is_none();
            let answer = sides.circuit.limits.first_byte.filter(|_| is_awaited).map(|limit| self.last_sent + limit);
            // While the target takes nothing the client cannot send anything.
            let is_receiving = is_awaited && !self.upload.is_done() && !self.is_sending();
            let content = sides
                .shared
                .limits
                .body
                .filter(|_| is_receiving)
                .map(|limit| self.last_received.max(self.last_sent) + limit);
            let write = is_giving.then(|| self.last_taken + sides.shared.limits.write);
            let stall = (is_giving && self.stall.is_none()).then(|| self.last_taken + STALL_TIME);
            let Some(due) = [answer, content, write, stall, self.drains_until].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            ready!(sides.kept.deadline.poll(due, context));
            let now = Instant::now();
            if self.drains_until.is_some_and(|until| until <= now) {
                return Poll::Ready(Ok(Finished { keeps: false, target_keeps: false }));
            }
            let is_over = |limit: Option<Instant>| limit.is_some_and(|limit| limit <= now);
            if is_over(answer) {
                return Poll::Ready(Err(Broken::AnswerTimeout));
            }
            if is_over(content) {
                return Poll::Ready(Err(Broken::ContentTimeout));
            }
            if is_over(write) {
                return Poll::Ready(Err(Broken::WriteTimeout("answer")));
            }
            if is_over(stall) {
                match Arc::clone(sides.stalled).try_acquire_owned() {
                    Ok(place) => self.stall = Some(place),
                    Err(_) => return Poll::Ready(Err(Broken::WriteTimeout("stalled_readers"))),
                }
            }
        }
    }
}
