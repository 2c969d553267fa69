//! Reads the frames of an HTTP/2 connection as they pass (RFC 9113 §4.1), without their content.
//!
//! Invariant: whatever the bytes are, a reader keeps no more than [`KEPT_BYTES`] of them.

/// The head of a frame.
const HEAD_BYTES: usize = 9;

/// The head, or the part of a payload that is understood at once: one setting has six bytes.
const KEPT_BYTES: usize = HEAD_BYTES;

/// What clients say first.
const PREFACE_BYTES: usize = 24;

/// Kinds of frames that matter here (RFC 9113 §6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
}

/// Something that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The head of a frame.
    Frame {
        /// Which kind it is.
        kind: u8,
        /// Whether nothing of its stream follows.
        is_last: bool,
        /// Its stream; 0 is the connection.
        stream: u32,
        /// Bytes of its payload.
        length: u32,
    },
    /// A window grows.
    Grant {
        /// Whose window.
        stream: u32,
        /// By how much.
        bytes: u32,
    },
    /// One setting.
    Setting {
        /// Which one.
        id: u16,
        /// Its value.
        value: u32,
    },
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// Bytes to be passed over, before the next head or within a payload.
    skip: usize,
    /// Bytes of a payload that is understood which are yet to come.
    payload: usize,
    kind: u8,
    stream: u32,
    kept: [u8; KEPT_BYTES],
    has: usize,
}

// === impl FrameReader ===

impl FrameReader {
    /// Reads what a client says.
    pub(crate) fn of_client() -> Self {
        Self { skip: PREFACE_BYTES, ..Self::of_server() }
    }

    /// Reads what a server says.
    pub(crate) fn of_server() -> Self {
        Self { skip: 0, payload: 0, kind: 0, stream: 0, kept: [0; KEPT_BYTES], has: 0 }
    }

    /// Takes `bytes`, and tells `see` what passes with them.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut see: impl FnMut(Event)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = self.wanted();
            let taken = (wanted - self.has).min(bytes.len());
            if let (Some(place), Some(part)) = (self.kept.get_mut(self.has..self.has + taken), bytes.get(..taken)) {
                place.copy_from_slice(part);
            }
            self.has += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.has == wanted {
                self.has = 0;
                if self.payload == 0 { self.take_head(&mut see) } else { self.take_payload(wanted, &mut see) }
            }
        }
    }

    /// How many bytes are understood together.
    fn wanted(&self) -> usize {
        match (self.payload, self.kind) {
            (0, _) => HEAD_BYTES,
            (_, kind::SETTINGS) => 6,
            _ => 4,
        }
    }

    fn take_head(&mut self, see: &mut impl FnMut(Event)) {
        const END_STREAM: u8 = 1;
        let [high, middle, low, kind, flags, stream @ ..] = self.kept;
        let length = u32::from_be_bytes([0, high, middle, low]);
        (self.kind, self.stream) = (kind, u32::from_be_bytes(stream) & (u32::MAX >> 1));
        let is_last = match kind {
            kind::DATA | kind::HEADERS => flags & END_STREAM != 0,
            _ => kind == kind::RST_STREAM,
        };
        see(Event::Frame { kind, is_last, stream: self.stream, length });
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let is_understood = match kind {
            kind::SETTINGS => length > 0 && length.is_multiple_of(6),
            kind::WINDOW_UPDATE => length == 4,
            _ => false,
        };
        // A frame of a wrong length ends the connection, which is the protocol's business.
        if is_understood { self.payload = length } else { self.skip = length }
    }

    fn take_payload(&mut self, length: usize, see: &mut impl FnMut(Event)) {
        self.payload = self.payload.saturating_sub(length);
        let [a, b, c, d, e, f, ..] = self.kept;
        see(if self.kind == kind::SETTINGS {
            Event::Setting { id: u16::from_be_bytes([a, b]), value: u32::from_be_bytes([c, d, e, f]) }
        } else {
            Event::Grant { stream: self.stream, bytes: u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1) }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conversation() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0]);
        bytes.extend([0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84]);
        bytes.extend([0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 1, 0]);
        bytes.extend([0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8]);
        bytes
    }

    fn events(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<Event> {
        let mut reader = FrameReader::of_client();
        let mut seen = Vec::new();
        for piece in pieces {
            reader.read(&piece, |event| seen.push(event));
        }
        seen
    }

    #[test]
    fn frames_are_seen_however_their_bytes_come() {
        let frame = |kind, is_last, stream, length| Event::Frame { kind, is_last, stream, length };
        let wanted = [
            frame(kind::SETTINGS, false, 0, 12),
            Event::Setting { id: 4, value: 1 },
            Event::Setting { id: 2, value: 0 },
            frame(kind::HEADERS, true, 1, 3),
            frame(kind::WINDOW_UPDATE, false, 1, 4),
            Event::Grant { stream: 1, bytes: 256 },
            frame(kind::RST_STREAM, true, 1, 4),
        ];
        for size in [1, 2, 7, 9, 1_000] {
            assert_eq!(events(conversation().chunks(size).map(<[u8]>::to_vec)), wanted, "{size}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            events(bytes.chunks(13).map(<[u8]>::to_vec));
        }
    }
}
