//! Writes records, many at once.
//!
//! Invariant: no more than a chunk and a record is in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::Span;
use crate::snapshot::format;

/// What is written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes records one after the other, many at once.
pub(super) struct Chunks<'a> {
    file: &'a File,
    /// Where the buffer goes.
    offset: u64,
    buffer: Vec<u8>,
}

// === impl Chunks ===

impl<'a> Chunks<'a> {
    /// Records from `offset` on.
    pub(super) fn new(file: &'a File, offset: u64) -> Self {
        Self { file, offset, buffer: Vec::new() }
    }

    /// Where the record comes to stand.
    pub(super) fn push(&mut self, payload: &[u8]) -> io::Result<Span> {
        let offset = self.offset + self.buffer.len() as u64;
        let payload_bytes = format::push(&mut self.buffer, payload)?;
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(Span { offset, payload_bytes })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The end of what was written.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        Ok(self.offset)
    }
}
