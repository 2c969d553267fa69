//! A request on its way to its target.
//!
//! Invariant: while the request may begin again, all of it is held.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Carrier, MAX_EARLY_BYTES, MAX_RESENT_BYTES, SCRATCH, Sides};
use crate::exchange::broken::Broken;
use crate::guard::Pace;
use crate::limits::CONTENT_GRACE;

impl Carrier<'_> {
    /// From the client to the target.
    pub(super) fn carry_up(&mut self, sides: &mut Sides<'_>, context: &mut Context<'_>) -> Result<(), Broken> {
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
        self.has_content |= count > 0;
        self.may_begin_again &= self.to_target.len() <= MAX_RESENT_BYTES;
        sides.context.recording.bytes_to_target += count as u64;
        if self.answer.is_none() && sides.shared.limits.body_bytes_per_s > 0 {
            let now = std::time::Instant::now();
            let grace = sides.shared.limits.body.unwrap_or(CONTENT_GRACE);
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
            self.upload_encoder.end(&mut self.to_target);
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.head_sent < self.head.len() || self.to_target_sent < self.to_target.len()
    }

    pub(super) fn is_sending(&self) -> bool {
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
}
