//! An answer on its way to the client.
//!
//! Invariant: an answer whose head or content has two readings ends here, and what a client has got of it never looks whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use super::{Answer, Carrier, Finished, SCRATCH, Sides};
use crate::circuit::LiveCircuit;
use crate::connection::ClientStream;
use crate::exchange::answer::{AnswerHead, BadAnswer};
use crate::exchange::broken::{Broken, MAX_INTERIM};
use crate::exchange::framing::{Decoder, Encoder, Framing};
use crate::exchange::request::room;
use crate::exchange::{must_close, trailers};
use crate::guard::MAX_HEAD_BYTES;
use crate::head::end_of_head;
use crate::limits::DRAIN_TIME;

impl Carrier<'_> {
    /// From the target to the client.
    pub(super) fn carry_down(
        &mut self,
        sides: &mut Sides<'_>,
        context: &mut Context<'_>,
    ) -> Result<Poll<Finished>, Broken> {
        loop {
            if self.give(sides.client, context)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let has_ended = self.answer.as_ref().is_some_and(|answer| answer.has_ended);
            if has_ended && self.begins_to_drain() {
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
                Some(answer) if answer.content.is_until_close() => answer.end(sides.circuit, &mut self.to_client),
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
        // An answer to a request that is not whole yet ends the connection: how much is still to come is not known.
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
            answer.end(sides.circuit, &mut self.to_client)?;
        }
        if !rest.is_empty() {
            // Nobody asked for what comes behind the answer.
            answer.target_keeps = false;
        }
        Ok(())
    }

    /// Whether the client is still sending content that nobody wants: it reads the answer when it has sent everything, or never
    /// if its connection ends before.
    fn begins_to_drain(&mut self) -> bool {
        if self.upload.is_done() || !self.has_content {
            return false;
        }
        self.is_upload_broken = true;
        self.drains_until = Some(Instant::now() + DRAIN_TIME);
        true
    }

    /// Gives the client what there is for it.
    fn give(&mut self, client: &mut ClientStream, context: &mut Context<'_>) -> Result<Poll<()>, Broken> {
        while let Some(rest) = self.to_client.get(self.to_client_sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *client).poll_write(context, rest) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.to_client_sent += count;
                    self.has_given |= self.answer.is_some();
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
}

// === impl Answer ===

impl Answer {
    /// Its content has ended.
    fn end(&mut self, circuit: &LiveCircuit, to_client: &mut Vec<u8>) -> Result<(), Broken> {
        self.has_ended = true;
        if !self.passes_trailers {
            self.encoder.end(to_client);
            return Ok(());
        }
        let edits = circuit.edits.as_deref().map(|edits| &edits.response);
        let is_edited = |name: &[u8]| edits.is_some_and(|edits| edits.touches(name));
        to_client.extend_from_slice(b"0\r\n");
        trailers::pass(self.content.trailers(), is_edited, to_client).map_err(Broken::AnswerContent)?;
        to_client.extend_from_slice(b"\r\n");
        Ok(())
    }
}
