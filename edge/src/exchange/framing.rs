//! Where the content of a message of HTTP/1 ends (RFC 9112 §6, §7), read and written by ourselves.
//!
//! Invariant: what is written is framed from what was understood, never passed on as it came; what can be read in two ways is
//! [`Broken`], and nothing behind the end of a message is taken for a part of it.

use std::io::Write as _;

/// The longest line of a chunk's size, its extension included.
const MAX_SIZE_LINE_BYTES: usize = 256;

/// The longest trailer section.
const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// How a head says that its content is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks, and perhaps trailers.
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
}

/// The content cannot be read in one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed content: {0}")]
pub(super) struct Broken(pub(super) &'static str);

/// Reads content.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    /// In the line of a chunk's size: what it says so far, its digits, its bytes.
    Size {
        size: u64,
        digits: u8,
        bytes: usize,
        is_extension: bool,
    },
    /// The line of a chunk's size must end here.
    SizeEnd(u64),
    Data(u64),
    /// Behind the data of a chunk: a carriage return, then a line feed.
    DataEnd(bool),
    /// In a line of the trailer section: whether it is empty so far.
    Trailer {
        is_empty: bool,
    },
    /// That line must end here.
    TrailerEnd {
        is_empty: bool,
    },
}

/// Writes content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoder(Framing);

// === impl Framing ===

impl Framing {
    /// Content of so many bytes.
    pub(super) fn length(length: u64) -> Self {
        if length == 0 { Self::None } else { Self::Length(length) }
    }
}

// === impl Decoder ===

/// The state at the beginning of a chunk.
const NEXT_CHUNK: State = State::Size { size: 0, digits: 0, bytes: 0, is_extension: false };

impl Decoder {
    /// Reads content that is framed so.
    pub(super) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => NEXT_CHUNK,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: Vec::new() }
    }

    /// Whether the content has ended.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection is the end of the content.
    pub(super) fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The lines of the trailer section, each with its end, once the content has ended.
    pub(super) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Takes the next piece of content off `bytes`; nothing if all of them are taken, or the content has ended: what is left of
    /// `bytes` then belongs to the next message.
    pub(super) fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<&'b [u8]>, Broken> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                State::UntilClose => return Ok(Some(std::mem::take(bytes)).filter(|piece| !piece.is_empty())),
                State::Length(left) => {
                    let (piece, left) = split(bytes, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Some(piece).filter(|piece| !piece.is_empty()));
                }
                State::Data(left) => {
                    let (piece, left) = split(bytes, left);
                    self.state = if left == 0 { State::DataEnd(false) } else { State::Data(left) };
                    return Ok(Some(piece).filter(|piece| !piece.is_empty()));
                }
                _ => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(None) };
                    *bytes = rest;
                    self.state = self.step(*byte)?;
                }
            }
        }
    }

    /// One byte between the pieces of chunked content.
    fn step(&mut self, byte: u8) -> Result<State, Broken> {
        match self.state {
            State::Size { size, digits, bytes, is_extension } => {
                if bytes >= MAX_SIZE_LINE_BYTES {
                    return Err(Broken("the line of a chunk's size is too long"));
                }
                let bytes = bytes + 1;
                match byte {
                    b'\r' if digits > 0 => Ok(State::SizeEnd(size)),
                    b';' if digits > 0 => Ok(State::Size { size, digits, bytes, is_extension: true }),
                    // Extensions say nothing to us, but nothing may hide in them.
                    b' '..=b'~' | b'\t' | 0x80.. if is_extension => {
                        Ok(State::Size { size, digits, bytes, is_extension })
                    }
                    _ if is_extension => Err(Broken("a control character in the extension of a chunk")),
                    _ => {
                        let digit = (byte as char).to_digit(16).ok_or(Broken("a chunk's size is no number"))?;
                        if digits == 16 {
                            return Err(Broken("a chunk's size is too large"));
                        }
                        let size = size * 16 + u64::from(digit);
                        Ok(State::Size { size, digits: digits + 1, bytes, is_extension })
                    }
                }
            }
            State::SizeEnd(0) if byte == b'\n' => Ok(State::Trailer { is_empty: true }),
            State::SizeEnd(size) if byte == b'\n' => Ok(State::Data(size)),
            State::DataEnd(false) if byte == b'\r' => Ok(State::DataEnd(true)),
            State::DataEnd(true) if byte == b'\n' => Ok(NEXT_CHUNK),
            State::Trailer { is_empty } if byte == b'\r' => Ok(State::TrailerEnd { is_empty }),
            State::Trailer { .. } if byte == b'\n' || byte == 0 => {
                Err(Broken("a trailer with a bare line feed or a NUL"))
            }
            State::Trailer { is_empty } => {
                if is_empty && !byte.is_ascii_graphic() {
                    return Err(Broken("a trailer that begins with white space"));
                }
                self.keep_trailer(&[byte])?;
                Ok(State::Trailer { is_empty: false })
            }
            State::TrailerEnd { is_empty: true } if byte == b'\n' => Ok(State::Done),
            State::TrailerEnd { is_empty: false } if byte == b'\n' => {
                self.keep_trailer(b"\r\n")?;
                Ok(State::Trailer { is_empty: true })
            }
            _ => Err(Broken("a chunk does not end where its size says")),
        }
    }

    fn keep_trailer(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.trailers.len() + bytes.len() > MAX_TRAILER_BYTES {
            return Err(Broken("the trailers are too long"));
        }
        self.trailers.extend_from_slice(bytes);
        Ok(())
    }
}

/// The first `most` of `bytes`, and how many of those are missing.
fn split<'b>(bytes: &mut &'b [u8], most: u64) -> (&'b [u8], u64) {
    let count = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (piece, rest) = bytes.split_at(count);
    *bytes = rest;
    (piece, most - count as u64)
}

// === impl Encoder ===

impl Encoder {
    /// Writes content that is framed so.
    pub(super) fn new(framing: Framing) -> Self {
        Self(framing)
    }

    /// Whether the content is made of chunks.
    pub(super) fn is_chunked(self) -> bool {
        self.0 == Framing::Chunked
    }

    /// Writes what stands in front of a piece of content.
    pub(super) fn before(self, piece: &[u8], out: &mut Vec<u8>) {
        if self.is_chunked() {
            // Writing to memory does not fail.
            let _ = write!(out, "{:x}\r\n", piece.len());
        }
    }

    /// Writes what stands behind it.
    pub(super) fn after(self, out: &mut Vec<u8>) {
        if self.is_chunked() {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the end of the content, with no trailers.
    pub(super) fn end(self, out: &mut Vec<u8>) {
        if self.is_chunked() {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content, its trailers, what is left, and whether it has ended.
    type Read = (Vec<u8>, Vec<u8>, Vec<u8>, bool);

    /// Reads in pieces of this size.
    fn read(framing: Framing, bytes: &[u8], at_once: usize) -> Result<Read, Broken> {
        let mut decoder = Decoder::new(framing);
        let (mut content, mut rest) = (Vec::new(), Vec::new());
        for part in bytes.chunks(at_once) {
            let mut part = part;
            while let Some(piece) = decoder.next(&mut part)? {
                content.extend_from_slice(piece);
            }
            rest.extend_from_slice(part);
        }
        Ok((content, decoder.trailers().to_vec(), rest, decoder.is_done()))
    }

    #[test]
    fn content_ends_where_its_framing_says_wherever_it_is_cut() {
        let chunked = b"5\r\nhello\r\n6;a=\"b\"\r\n world\r\n0\r\nX-Sum: 1\r\n\r\nnext";
        for at_once in 1..=chunked.len() {
            let read = read(Framing::Chunked, chunked, at_once).expect("valid");
            let wanted = (b"hello world".to_vec(), b"X-Sum: 1\r\n".to_vec(), b"next".to_vec(), true);
            assert_eq!(read, wanted, "{at_once}");
        }
        let (content, _, rest, is_done) = read(Framing::Length(5), b"hellonext", 2).expect("valid");
        assert_eq!((&content[..], &rest[..], is_done), (&b"hello"[..], &b"next"[..], true));
        let (content, _, _, is_done) = read(Framing::UntilClose, b"all of it", 4).expect("valid");
        assert_eq!((&content[..], is_done), (&b"all of it"[..], false));
        assert_eq!(read(Framing::None, b"next", 4).expect("valid").2, b"next");
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_broken() {
        for bytes in [
            &b"\r\nhello"[..],
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b" 5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"-1\r\n",
            b"5;\x00\r\nhello",
            b"5;a\nb\r\nhello",
            b"10000000000000000\r\n",
            b"0\r\n X: folded\r\n\r\n",
            b"0\r\nX: 1\n\r\n",
        ] {
            assert!(read(Framing::Chunked, bytes, 3).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        let long = [b"5;".to_vec(), vec![b'a'; MAX_SIZE_LINE_BYTES]].concat();
        assert!(read(Framing::Chunked, &long, 64).is_err());
        let trailers = [b"0\r\n".to_vec(), b"X: y\r\n".repeat(MAX_TRAILER_BYTES)].concat();
        assert!(read(Framing::Chunked, &trailers, 64).is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let encoder = Encoder::new(Framing::Chunked);
        let mut out = Vec::new();
        for piece in [&b"a"[..], &[b'b'; 300]] {
            encoder.before(piece, &mut out);
            out.extend_from_slice(piece);
            encoder.after(&mut out);
        }
        encoder.end(&mut out);
        let (content, trailers, rest, is_done) = read(Framing::Chunked, &out, 7).expect("valid");
        assert_eq!((content.len(), &trailers[..], rest.len(), is_done), (301, &b""[..], 0, true));
    }
}
