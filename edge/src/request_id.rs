//! A name for each request, which stands in its answer, in what the target gets and in every line of the log about it.
//!
//! Invariant: no two requests of one process have the same, and those of different processes do not by chance either.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use http::header::HeaderName;

/// The field that carries it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What tells processes apart: the upper half of every name.
static PROCESS: LazyLock<u64> = LazyLock::new(|| u64::from(rand::random::<u32>()) << 32);

/// How many requests there were; after four thousand million the names begin again.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The longest name that a proxy in front of the edge may give.
const MAX_BYTES: usize = 128;

/// Names one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// A name of the edge's own: 16 hexadecimal digits.
    Own(u64),
    /// What a trusted proxy calls it.
    Told(HeaderValue),
}

// === impl RequestId ===

impl RequestId {
    /// A name that no request has.
    pub(crate) fn next() -> Self {
        Self::Own(*PROCESS | (COUNT.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX)))
    }

    /// The name that a trusted proxy gave, if it can stand in a log.
    pub(crate) fn told(value: &[u8]) -> Option<Self> {
        let is_sane = (1..=MAX_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        HeaderValue::from_bytes(value).ok().filter(|_| is_sane).map(Self::Told)
    }

    /// The name as a field value.
    pub(crate) fn value(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut rest = match self {
            Self::Own(number) => *number,
            Self::Told(value) => return value.clone(),
        };
        let mut text = [0; 16];
        for byte in text.iter_mut().rev() {
            // The lowest four bits are an index into sixteen digits.
            *byte = DIGITS.get((rest & 15) as usize).copied().unwrap_or(b'0');
            rest >>= 4;
        }
        // Digits are always a field value.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(number) => write!(formatter, "{number:016x}"),
            Self::Told(value) => formatter.write_str(value.to_str().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_written_in_one_way() {
        let (one, two) = (RequestId::next(), RequestId::next());
        assert_ne!(one, two);
        assert_eq!(one.value().to_str().expect("text"), one.to_string());
        assert_eq!(RequestId::Own(0xab).to_string(), "00000000000000ab");
        assert_eq!(one.to_string()[..8], two.to_string()[..8], "of one process");
    }

    #[test]
    fn a_name_that_would_spoil_a_log_is_not_taken_over() {
        let told = |value: &[u8]| RequestId::told(value).map(|id| id.to_string());
        assert_eq!(told(b"5f3a-9").as_deref(), Some("5f3a-9"));
        for value in [&b""[..], b"a b", b"a\tb", b"\xe2\x80\xae", &[b'a'; MAX_BYTES + 1]] {
            assert_eq!(told(value), None, "{value:?}");
        }
    }
}
