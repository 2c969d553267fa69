//! Carries one request to a target and its answer back, both ways at once.
//!
//! Invariant: nothing is read from one side while the other has not taken what was read before, so at most one thread's buffer is
//! held for each direction. Whatever comes behind a message stays behind it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::answer::{AnswerHead, BadAnswer};
use super::broken::{Broken, MAX_INTERIM};
use super::deadline::Deadline;
use super::framing::{Decoder, Encoder, Framing};
use super::must_close;
use super::request::{Asked, room};
use crate::circuit::LiveCircuit;
use crate::connection::ClientStream;
use crate::decide::RequestContext;
use crate::guard::{MAX_HEAD_BYTES, Pace};
use crate::head::end_of_head;
use crate::shared::Shared;

/// What is read at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Content that is held so that the request can be sent once more.
const MAX_RESENT_BYTES: usize = 64 * 1024;

/// What a client may send behind a request that is not answered yet.
const MAX_EARLY_BYTES: usize = MAX_HEAD_BYTES;

/// How long a write to a client may wait before that client counts as one that has stopped reading.
const STALL_TIME: Duration = Duration::from_secs(5);

/// How long content may come at any pace where its silence is not limited.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);

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
    has_upload_ended: bool,
    /// The head of the answer as far as it has come.
    partial: Vec<u8>,
    interim: usize,
    answer: Option<Answer>,
    to_client: Vec<u8>,
    to_client_sent: usize,
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
            has_upload_ended: asked.content == Framing::None,
            partial: Vec::new(),
            interim: 0,
            answer: None,
            to_client: Vec::new(),
            to_client_sent: 0,
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
        self.answer.is_some() || self.to_client_sent > 0
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
        self.carry_up(sides, context)?;
        if let Poll::Ready(finished) = self.carry_down(sides, context)? {
            return Poll::Ready(Ok(finished));
        }
        // An answer that has begun may have made the client's silence unimportant, or taken bytes that were waited for.
        self.poll_limits(sides, context).map(Err)
    }

    /// From the client to the target.
    fn carry_up(&mut self, sides: &mut Sides<'_>, context: &mut Context<'_>) -> Result<(), Broken> {
        loop {
            if self.is_sending() && self.send(sides.target, context).is_pending() {
                return Ok(());
            }
            if !self.upload.is_done() && !sides.early.is_empty() {
                let bytes = sides.early.split();
                let left = self.take_content(&bytes, sides)?;
                let mut rest = bytes;
                rest.advance(rest.len() - left);
                *sides.early = rest;
                continue;
            }
            if self.upload.is_done() {
                self.end_upload();
                if self.is_sending() {
                    continue;
                }
                if sides.early.len() >= MAX_EARLY_BYTES {
                    return Ok(());
                }
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut *sides.client).poll_read(context, &mut buffer) {
                    Poll::Pending => Ok(false),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => Err(Broken::ClientGone),
                    Poll::Ready(Err(_)) => Err(Broken::ClientGone),
                    Poll::Ready(Ok(())) => {
                        self.last_received = Instant::now();
                        let bytes = buffer.filled();
                        let left = if self.upload.is_done() { bytes.len() } else { self.take_content(bytes, sides)? };
                        sides.early.extend_from_slice(bytes.get(bytes.len() - left..).unwrap_or_default());
                        Ok(true)
                    }
                }
            })?;
            if !read {
                return Ok(());
            }
        }
    }

    /// Takes content off `bytes`; says how many of them, at their end, belong to the next request.
    fn take_content(&mut self, bytes: &[u8], sides: &mut Sides<'_>) -> Result<usize, Broken> {
        let mut rest = bytes;
        let mut count = 0;
        while let Some(piece) = self.upload.next(&mut rest).map_err(Broken::ClientContent)? {
            count += piece.len();
            if !self.is_upload_broken || self.may_begin_again {
                self.upload_encoder.before(piece, &mut self.to_target);
                self.to_target.extend_from_slice(piece);
                self.upload_encoder.after(&mut self.to_target);
            }
        }
        self.may_begin_again &= self.to_target.len() <= MAX_RESENT_BYTES;
        sides.context.recording.bytes_to_target += count as u64;
        if self.answer.is_none() && sides.shared.limits.body_bytes_per_s > 0 {
            let now = std::time::Instant::now();
            let grace = sides.shared.limits.body.unwrap_or(DEFAULT_GRACE);
            let pace = self.pace.get_or_insert_with(|| Pace::begin(now));
            if pace.note(count, now, grace, sides.shared.limits.body_bytes_per_s) {
                return Err(Broken::ContentTimeout);
            }
        }
        Ok(rest.len())
    }

    fn end_upload(&mut self) {
        if !std::mem::replace(&mut self.has_upload_ended, true) {
            // Trailers of requests end at the edge (RFC 9110 §6.5.1 lets it).
            self.upload_encoder.end(&[], &mut self.to_target);
        }
    }

    fn has_unsent(&self) -> bool {
        self.head_sent < self.head.len() || self.to_target_sent < self.to_target.len()
    }

    fn is_sending(&self) -> bool {
        self.has_unsent() && !self.is_upload_broken
    }

    /// Sends what there is for the target.
    fn send(&mut self, target: &mut TcpStream, context: &mut Context<'_>) -> Poll<()> {
        while self.has_unsent() {
            let head = self.head.get(self.head_sent..).unwrap_or_default();
            let content = self.to_target.get(self.to_target_sent..).unwrap_or_default();
            let slices = [io::IoSlice::new(head), io::IoSlice::new(content)];
            match ready!(Pin::new(&mut *target).poll_write_vectored(context, &slices)) {
                Ok(count) if count > 0 => {
                    let of_head = count.min(head.len());
                    self.head_sent += of_head;
                    self.to_target_sent += count - of_head;
                    self.last_sent = Instant::now();
                }
                // It may have answered before it stopped reading.
                _ => {
                    self.is_upload_broken = true;
                    return Poll::Ready(());
                }
            }
        }
        if !self.may_begin_again {
            self.to_target.clear();
            self.to_target_sent = 0;
            if self.has_upload_ended {
                self.to_target = Vec::new();
            }
        }
        Poll::Ready(())
    }

    /// From the target to the client.
    fn carry_down(&mut self, sides: &mut Sides<'_>, context: &mut Context<'_>) -> Result<Poll<Finished>, Broken> {
        loop {
            if self.give(sides.client, context)?.is_pending() {
                return Ok(Poll::Pending);
            }
            if let Some(answer) = self.answer.as_ref().filter(|answer| answer.has_ended) {
                let is_whole = self.has_upload_ended && !self.has_unsent() && !self.is_upload_broken;
                let keeps = answer.keeps && self.upload.is_done();
                return Ok(Poll::Ready(Finished { keeps, target_keeps: answer.target_keeps && is_whole }));
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut *sides.target).poll_read(context, &mut buffer) {
                    Poll::Pending => Ok(false),
                    Poll::Ready(Err(error)) => Err(Broken::TargetClosed(error)),
                    Poll::Ready(Ok(())) => {
                        self.take_answer(buffer.filled(), sides)?;
                        Ok(true)
                    }
                }
            })?;
            if !read {
                return Ok(Poll::Pending);
            }
        }
    }

    /// Takes what the target has sent; nothing is its end.
    fn take_answer(&mut self, bytes: &[u8], sides: &mut Sides<'_>) -> Result<(), Broken> {
        if bytes.is_empty() {
            return match &mut self.answer {
                Some(answer) if answer.content.is_until_close() => {
                    answer.end(&mut self.to_client);
                    Ok(())
                }
                _ => Err(Broken::TargetClosed(io::ErrorKind::UnexpectedEof.into())),
            };
        }
        if self.answer.is_some() {
            return self.take_answer_content(bytes, sides);
        }
        if self.partial.is_empty() {
            let left = self.take_heads(bytes, sides)?;
            if self.answer.is_none() {
                self.partial.extend_from_slice(left);
            }
        } else {
            self.partial.extend_from_slice(bytes);
            let whole = std::mem::take(&mut self.partial);
            let left = self.take_heads(&whole, sides)?;
            if self.answer.is_none() {
                self.partial = left.to_vec();
            }
        }
        if self.partial.len() > MAX_HEAD_BYTES {
            return Err(Broken::NothingFinal);
        }
        Ok(())
    }

    /// Takes heads off `bytes`, the final one with the content behind it; says what is left of no whole head.
    fn take_heads<'b>(&mut self, bytes: &'b [u8], sides: &mut Sides<'_>) -> Result<&'b [u8], Broken> {
        let mut rest = bytes;
        while let Some(length) = end_of_head(rest, 0) {
            let (head, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            let is_final = self.take_head(head, sides)?;
            if is_final {
                self.take_answer_content(behind, sides)?;
                return Ok(&[]);
            }
            rest = behind;
        }
        Ok(rest)
    }

    fn take_head(&mut self, bytes: &[u8], sides: &mut Sides<'_>) -> Result<bool, Broken> {
        let mut room = room();
        let head = AnswerHead::judge(bytes, self.asked, &mut room)?;
        if head.status == 101 {
            return Err(BadAnswer::UNASKED_UPGRADE.into());
        }
        if head.is_interim() {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Broken::NothingFinal);
            }
            if !self.asked.is_http_11 {
                // HTTP/1.0 knows none (RFC 9110 §15.2).
                return Ok(false);
            }
        } else {
            sides.context.note_answer();
        }
        // An answer to a request that is not whole yet ends the connection: nobody knows how much is still to come.
        let may_keep = self.may_keep && self.upload.is_done() && !must_close(sides.context, sides.shared);
        let to_client = head.to_client(self.asked, may_keep);
        if self.to_client.is_empty() {
            self.last_taken = Instant::now();
        }
        head.write_for_client(sides.context, sides.circuit, self.asked, to_client, &mut self.to_client);
        if head.is_interim() {
            return Ok(false);
        }
        sides.context.recording.status = Some(head.status);
        self.answer = Some(Answer {
            content: Decoder::new(head.content),
            encoder: Encoder::new(to_client.content),
            keeps: to_client.keeps,
            target_keeps: head.target_keeps,
            has_ended: head.content == Framing::None,
            passes_trailers: self.asked.takes_trailers && head.content == Framing::Chunked,
            is_until_close: to_client.content == Framing::UntilClose,
        });
        Ok(true)
    }

    fn take_answer_content(&mut self, bytes: &[u8], sides: &mut Sides<'_>) -> Result<(), Broken> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        if self.to_client.is_empty() {
            self.last_taken = Instant::now();
        }
        let mut rest = bytes;
        while let Some(piece) = answer.content.next(&mut rest).map_err(Broken::AnswerContent)? {
            sides.context.recording.bytes_to_client += piece.len() as u64;
            answer.encoder.before(piece, &mut self.to_client);
            self.to_client.extend_from_slice(piece);
            answer.encoder.after(&mut self.to_client);
        }
        if answer.content.is_done() && !answer.has_ended {
            answer.end(&mut self.to_client);
        }
        if !rest.is_empty() {
            // Nobody asked for what comes behind the answer.
            answer.target_keeps = false;
        }
        Ok(())
    }

    /// Gives the client what there is for it.
    fn give(&mut self, client: &mut ClientStream, context: &mut Context<'_>) -> Result<Poll<()>, Broken> {
        while let Some(rest) = self.to_client.get(self.to_client_sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *client).poll_write(context, rest) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.to_client_sent += count;
                    self.last_taken = Instant::now();
                    self.stall = None;
                }
                Poll::Ready(_) => return Err(Broken::ClientGone),
            }
        }
        self.to_client.clear();
        self.to_client_sent = 0;
        match Pin::new(&mut *client).poll_flush(context) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(_)) => Err(Broken::ClientGone),
        }
    }

    /// Ready when a limit is reached.
    fn poll_limits(&mut self, sides: &mut Sides<'_>, context: &mut Context<'_>) -> Poll<Broken> {
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
            let Some(due) = [answer, content, write, stall].into_iter().flatten().min() else { return Poll::Pending };
            ready!(sides.kept.deadline.poll(due, context));
            let now = Instant::now();
            let is_over = |limit: Option<Instant>| limit.is_some_and(|limit| limit <= now);
            if is_over(answer) {
                return Poll::Ready(Broken::AnswerTimeout);
            }
            if is_over(content) {
                return Poll::Ready(Broken::ContentTimeout);
            }
            if is_over(write) {
                return Poll::Ready(Broken::WriteTimeout("answer"));
            }
            if is_over(stall) {
                match Arc::clone(sides.stalled).try_acquire_owned() {
                    Ok(place) => self.stall = Some(place),
                    Err(_) => return Poll::Ready(Broken::WriteTimeout("stalled_readers")),
                }
            }
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Its content has ended.
    fn end(&mut self, to_client: &mut Vec<u8>) {
        self.has_ended = true;
        let trailers = if self.passes_trailers { self.content.trailers() } else { &[] };
        self.encoder.end(trailers, to_client);
    }
}
