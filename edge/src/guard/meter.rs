//! What an HTTP/2 connection costs beside its requests: frames that only keep the edge busy, and windows that keep
//! answers waiting.
//!
//! The h2 crate limits header lists, continuations, empty content, streams that are reset before they were accepted and
//! streams that it has to reset itself. It does not limit what costs little each: `PING`, `SETTINGS`, `PRIORITY`,
//! `WINDOW_UPDATE`, streams that are reset after they were accepted.
//!
//! Invariant: a client that reads what it is sent pays for its frames with it and is never refused; the memory of a meter
//! is bounded by [`MAX_STREAMS_SEEN`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::frames::{Event, FrameReader, kind};

/// Frames without content that a client may send at once.
const CONTROL_BURST: u64 = 1_000;

/// The same for each second.
const CONTROL_PER_S: u64 = 100;

/// The same for each frame that it is sent: updates of two windows, a ping that measures, and one to spare.
const CONTROL_PER_ANSWER: u64 = 4;

/// Streams that a client may reset at once: a page with a few hundred pictures is left.
const RESET_BURST: u64 = 400;

/// The same for each second, as nghttp2 has it.
const RESETS_PER_S: u64 = 33;

/// Streams that a client may make the edge reset at once (CVE-2025-8671): all that are open at the end of two circuits.
const OWN_RESET_BURST: u64 = 200;

/// The same for each second.
const OWN_RESETS_PER_S: u64 = 33;

/// Less room than this makes no sense for a client that wants to read.
const TINY_WINDOW_BYTES: i64 = 1_024;

/// Rooms of that kind, until the connection ends.
const MAX_TINY_GRANTS: u32 = 100;

/// Streams that are open by what has passed; h2 has refused more long before.
const MAX_STREAMS_SEEN: usize = 1_024;

/// RFC 9113 §6.5.2.
const INITIAL_WINDOW_SETTING: u16 = 4;

/// RFC 9113 §6.9.2.
const INITIAL_WINDOW_BYTES: i64 = 65_535;

/// What tires the edge. The words stand in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// Too many frames without content.
    ControlFrames,
    /// Too many streams that the client has reset (CVE-2023-44487).
    Resets,
    /// Too many streams that the client made the edge reset (CVE-2025-8671).
    OwnResets,
    /// Windows that are opened by a few bytes again and again.
    TinyWindows,
    /// Answers that nobody takes, when the edge keeps as many of them as it may.
    StalledReaders,
    /// More streams than there can be.
    Streams,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Meter {
    client: FrameReader,
    server: FrameReader,
    account: Account,
}

#[derive(Debug)]
struct Account {
    control: Bucket,
    resets: Bucket,
    own_resets: Bucket,
    initial_window: i64,
    connection: Window,
    streams: HashMap<u32, Window>,
    /// How many windows are starved, that of the connection included.
    starved: usize,
    tiny_grants: u32,
    abuse: Option<Abuse>,
}

/// What may be sent of one stream, or of all together.
#[derive(Debug, Clone, Copy)]
struct Window {
    room: i64,
    /// Since when there was never room for more than a few bytes, if all of it was used up.
    starved: Option<Instant>,
}

/// So much at once, and so much a second.
#[derive(Debug)]
struct Bucket {
    burst: u64,
    per_s: u64,
    /// In thousandths.
    left: u64,
    at: Instant,
}

// === impl Abuse ===

impl Abuse {
    /// The word in logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ControlFrames => "control_frames",
            Self::Resets => "resets",
            Self::OwnResets => "own_resets",
            Self::TinyWindows => "tiny_windows",
            Self::StalledReaders => "stalled_readers",
            Self::Streams => "streams",
        }
    }
}

// === impl Meter ===

impl Meter {
    /// A connection that begins.
    pub(crate) fn new(now: Instant) -> Self {
        let account = Account {
            control: Bucket::new(CONTROL_BURST, CONTROL_PER_S, now),
            resets: Bucket::new(RESET_BURST, RESETS_PER_S, now),
            own_resets: Bucket::new(OWN_RESET_BURST, OWN_RESETS_PER_S, now),
            initial_window: INITIAL_WINDOW_BYTES,
            connection: Window { room: INITIAL_WINDOW_BYTES, starved: None },
            streams: HashMap::new(),
            starved: 0,
            tiny_grants: 0,
            abuse: None,
        };
        Self { client: FrameReader::of_client(), server: FrameReader::of_server(), account }
    }

    /// The client has sent these bytes.
    pub(crate) fn received(&mut self, bytes: &[u8], now: Instant) {
        let Self { client, account, .. } = self;
        client.read(bytes, |event| account.receive(event, now));
    }

    /// The client is sent these bytes.
    pub(crate) fn sent(&mut self, bytes: &[u8], now: Instant) {
        let Self { server, account, .. } = self;
        server.read(bytes, |event| account.send(event, now));
    }

    /// Why the connection should end.
    pub(crate) fn abuse(&self) -> Option<Abuse> {
        self.account.abuse
    }

    /// Whether a stream that begins now has hardly room for an answer.
    pub(crate) fn has_tiny_windows(&self) -> bool {
        self.account.initial_window < TINY_WINDOW_BYTES
    }

    /// Whether something waits for room.
    pub(crate) fn is_starved(&self) -> bool {
        self.account.starved > 0
    }

    /// How many streams have been waiting for room since `before`; all of them if the connection has.
    pub(crate) fn stalled(&self, before: Instant) -> usize {
        let Account { connection, streams, .. } = &self.account;
        let is_stalled = |window: &Window| window.starved.is_some_and(|since| since <= before);
        if is_stalled(connection) {
            streams.len()
        } else {
            streams.values().filter(|window| is_stalled(window)).count()
        }
    }

    /// There is no place for another reader that has stopped.
    pub(crate) fn note_stalled(&mut self) {
        self.account.fail(Abuse::StalledReaders);
    }
}

// === impl Account ===

impl Account {
    fn receive(&mut self, event: Event, now: Instant) {
        match event {
            Event::Frame { kind: kind::HEADERS, stream, .. } => {
                let window = Window { room: self.initial_window, starved: None };
                self.streams.entry(stream).or_insert(window);
                if self.streams.len() > MAX_STREAMS_SEEN {
                    self.fail(Abuse::Streams);
                }
            }
            // h2 counts small and empty ones.
            Event::Frame { kind: kind::DATA, .. } => {}
            Event::Frame { kind: kind::RST_STREAM, stream, .. } => {
                self.forget(stream);
                if !self.resets.take(now) {
                    self.fail(Abuse::Resets);
                }
            }
            Event::Frame { .. } => {
                if !self.control.take(now) {
                    self.fail(Abuse::ControlFrames);
                }
            }
            Event::Grant { stream, bytes } => self.grow(stream, bytes),
            Event::Setting { id: INITIAL_WINDOW_SETTING, value } => {
                let grown = i64::from(value) - self.initial_window;
                self.initial_window = i64::from(value);
                for window in self.streams.values_mut() {
                    self.starved -= usize::from(window.grow(grown));
                }
            }
            Event::Setting { .. } => {}
        }
    }

    fn send(&mut self, event: Event, now: Instant) {
        let Event::Frame { kind, is_last, stream, length } = event else { return };
        match kind {
            kind::DATA => {
                self.control.add(CONTROL_PER_ANSWER);
                self.starved += usize::from(self.connection.shrink(length, now));
                if let Some(window) = self.streams.get_mut(&stream) {
                    self.starved += usize::from(window.shrink(length, now));
                }
            }
            kind::HEADERS => self.control.add(CONTROL_PER_ANSWER),
            kind::RST_STREAM if !self.own_resets.take(now) => self.fail(Abuse::OwnResets),
            _ => {}
        }
        if is_last {
            self.forget(stream);
        }
    }

    fn grow(&mut self, stream: u32, bytes: u32) {
        let window = if stream == 0 { Some(&mut self.connection) } else { self.streams.get_mut(&stream) };
        let Some(window) = window else { return };
        let was_empty = window.room <= 0;
        self.starved -= usize::from(window.grow(i64::from(bytes)));
        if was_empty && window.room < TINY_WINDOW_BYTES {
            self.tiny_grants += 1;
            if self.tiny_grants > MAX_TINY_GRANTS {
                self.fail(Abuse::TinyWindows);
            }
        }
    }

    fn forget(&mut self, stream: u32) {
        let window = self.streams.remove(&stream);
        self.starved -= usize::from(window.is_some_and(|window| window.starved.is_some()));
    }

    /// The first abuse stands.
    fn fail(&mut self, abuse: Abuse) {
        self.abuse.get_or_insert(abuse);
    }
}

// === impl Window ===

impl Window {
    /// Whether that ends a wait.
    fn grow(&mut self, bytes: i64) -> bool {
        self.room = self.room.saturating_add(bytes);
        self.room >= TINY_WINDOW_BYTES && self.starved.take().is_some()
    }

    /// Whether a wait begins with that.
    fn shrink(&mut self, bytes: u32, now: Instant) -> bool {
        self.room = self.room.saturating_sub(i64::from(bytes));
        let begins = self.room <= 0 && self.starved.is_none();
        if begins {
            self.starved = Some(now);
        }
        begins
    }
}

// === impl Bucket ===

impl Bucket {
    fn new(burst: u64, per_s: u64, now: Instant) -> Self {
        Self { burst, per_s, left: burst * 1_000, at: now }
    }

    /// Whether there was one.
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        if elapsed > 0 {
            self.at += Duration::from_millis(elapsed);
            self.left = self.left.saturating_add(elapsed.saturating_mul(self.per_s)).min(self.burst * 1_000);
        }
        match self.left.checked_sub(1_000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn add(&mut self, count: u64) {
        self.left = self.left.saturating_add(count * 1_000).min(self.burst * 1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn meter(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        meter.received(PREFACE, now);
        meter
    }

    #[test]
    fn a_flood_of_pings_is_abuse_and_a_ping_each_second_is_none() {
        let now = Instant::now();
        let ping = frame(PING, 0, 0, &[0; 8]);
        let mut flood = meter(now);
        for _ in 0..=CONTROL_BURST {
            assert_eq!(flood.abuse(), None);
            flood.received(&ping, now);
        }
        assert_eq!(flood.abuse(), Some(Abuse::ControlFrames));
        let mut calm = meter(now);
        for second in 0..100_000 {
            calm.received(&ping, now + Duration::from_secs(second));
        }
        assert_eq!(calm.abuse(), None);
    }

    #[test]
    fn whoever_reads_may_open_windows_as_fast_as_it_reads() {
        let now = Instant::now();
        let mut meter = meter(now);
        meter.received(&frame(kind::HEADERS, 4, 1, &[0x82]), now);
        for _ in 0..100_000 {
            meter.sent(&frame(kind::DATA, 0, 1, b"an event"), now);
            for stream in [0, 1] {
                meter.received(&frame(kind::WINDOW_UPDATE, 0, stream, &8_u32.to_be_bytes()), now);
            }
        }
        assert_eq!((meter.abuse(), meter.is_starved()), (None, false));
    }

    #[test]
    fn streams_that_are_reset_at_once_are_abuse_by_either_side() {
        let now = Instant::now();
        let reset = frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
        let mut rapid = meter(now);
        (0..=RESET_BURST).for_each(|_| rapid.received(&reset, now));
        assert_eq!(rapid.abuse(), Some(Abuse::Resets));
        let mut made = meter(now);
        (0..=OWN_RESET_BURST).for_each(|_| made.sent(&reset, now));
        assert_eq!(made.abuse(), Some(Abuse::OwnResets));
        let mut slow = meter(now);
        for number in 0..1_000 {
            slow.received(&reset, now + Duration::from_millis(number * 40));
        }
        assert_eq!(slow.abuse(), None);
    }

    #[test]
    fn windows_of_one_byte_are_abuse_and_do_not_end_the_wait() {
        let now = Instant::now();
        let mut meter = meter(now);
        meter.received(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]), now);
        assert!(meter.has_tiny_windows());
        meter.received(&frame(kind::HEADERS, 5, 1, &[0x82]), now);
        for number in 0..MAX_TINY_GRANTS {
            let later = now + Duration::from_secs(number.into());
            meter.sent(&frame(kind::DATA, 0, 1, b"x"), later);
            assert_eq!((meter.abuse(), meter.stalled(now)), (None, 1), "{number}");
            meter.received(&frame(kind::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()), later);
        }
        meter.sent(&frame(kind::DATA, 0, 1, b"x"), now);
        meter.received(&frame(kind::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()), now);
        assert_eq!(meter.abuse(), Some(Abuse::TinyWindows));
    }

    #[test]
    fn a_wait_ends_with_room_or_with_the_stream() {
        let now = Instant::now();
        let mut meter = meter(now);
        meter.received(&frame(kind::HEADERS, 5, 1, &[0x82]), now);
        meter.received(&frame(kind::WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes()), now);
        (0..4).for_each(|_| meter.sent(&frame(kind::DATA, 0, 1, &[0; 16_383]), now));
        meter.sent(&frame(kind::DATA, 0, 1, &[0; 3]), now);
        assert_eq!((meter.is_starved(), meter.stalled(now), meter.stalled(now - Duration::from_secs(1))), (true, 1, 0));
        meter.received(&frame(kind::WINDOW_UPDATE, 0, 1, &16_384_u32.to_be_bytes()), now);
        assert!(!meter.is_starved());
        meter.sent(&frame(kind::DATA, 0, 1, &[0; 16_384]), now);
        assert!(meter.is_starved());
        meter.sent(&frame(kind::RST_STREAM, 0, 1, &[0; 4]), now);
        assert_eq!((meter.is_starved(), meter.stalled(now)), (false, 0));
    }

    #[test]
    fn a_connection_without_room_stalls_all_of_its_streams() {
        let now = Instant::now();
        let mut meter = meter(now);
        for stream in [1, 3, 5] {
            meter.received(&frame(kind::HEADERS, 5, stream, &[0x82]), now);
            meter.sent(&frame(kind::DATA, 0, stream, &[0; 16_383]), now);
        }
        meter.sent(&frame(kind::DATA, 0, 1, &[0; 16_383]), now);
        assert!(!meter.is_starved());
        meter.sent(&frame(kind::DATA, 0, 1, &[0; 3]), now);
        assert_eq!((meter.is_starved(), meter.stalled(now)), (true, 3));
        meter.received(&frame(kind::WINDOW_UPDATE, 0, 0, &16_384_u32.to_be_bytes()), now);
        assert_eq!((meter.is_starved(), meter.stalled(now)), (false, 0));
    }
}
