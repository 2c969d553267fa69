//! Lines of a head, and the bytes that no line may have.
//!
//! Invariant: a line that comes out of [`Lines`] has no control character but the tab.

use super::Rule;

/// What a byte is, as bits.
static KINDS: [u8; 256] = kinds();

/// Control characters but the tab.
const CONTROL: u8 = 1;

/// What names and methods are made of (RFC 9110 §5.6.2).
const TOKEN: u8 = 2;

const fn kinds() -> [u8; 256] {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let character = byte as u8;
        #[allow(clippy::indexing_slicing, reason = "the loop ends at 256, and a constant that fails does not build")]
        {
            if (character < b' ' && character != b'\t') || character == 0x7f {
                kinds[byte] = CONTROL;
            } else if character.is_ascii_alphanumeric()
                || matches!(
                    character,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                )
            {
                kinds[byte] = TOKEN;
            }
        }
        byte += 1;
    }
    kinds
}

fn has_kind(byte: u8, kind: u8) -> bool {
    KINDS.get(usize::from(byte)).is_some_and(|kinds| kinds & kind != 0)
}

/// Whether names may have this byte.
pub(super) fn is_token_byte(byte: u8) -> bool {
    has_kind(byte, TOKEN)
}

/// Whether this is a token.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// Where the first control character stands that is no tab.
fn control(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + low(bytes.get(from..)?)?;
        if bytes.get(at) != Some(&b'\t') {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Where the first control character stands, tabs included. Eight bytes at a time: most of a head is none of them.
fn low(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let mut at = 0;
    for chunk in bytes.as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*chunk);
        // The top bit of each byte that is below a space, or is 0x7f. A borrow can mark a byte that is neither, but only
        // above one that is.
        let is_low = word.wrapping_sub(ONES * 0x20) & !word;
        let other = word ^ (ONES * 0x7f);
        let is_delete = other.wrapping_sub(ONES) & !other;
        let marks = (is_low | is_delete) & (ONES * 0x80);
        if marks != 0 {
            return Some(at + (marks.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    Some(at + rest.iter().position(|byte| *byte < b' ' || *byte == 0x7f)?)
}

/// What is left of a head.
pub(super) struct Lines<'a>(pub(super) &'a [u8]);

impl<'a> Lines<'a> {
    /// The next line, without its end.
    pub(super) fn next(&mut self) -> Result<&'a [u8], Rule> {
        let end = control(self.0).ok_or(Rule::Incomplete)?;
        let (line, rest) = self.0.split_at_checked(end).ok_or(Rule::Incomplete)?;
        match rest {
            [b'\r', b'\n', rest @ ..] => {
                self.0 = rest;
                Ok(line)
            }
            [b'\r', ..] => Err(Rule::BareCarriageReturn),
            [b'\n', ..] => Err(Rule::BareLineFeed),
            [0, ..] => Err(Rule::Nul),
            _ => Err(Rule::Control),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_carriage_return_and_a_line_feed_end_a_line() {
        let mut lines = Lines(b"a\tb\xff\r\nc\r\n");
        assert_eq!(lines.next(), Ok(&b"a\tb\xff"[..]));
        assert_eq!(lines.next(), Ok(&b"c"[..]));
        assert_eq!(lines.next(), Err(Rule::Incomplete));
        for (bytes, rule) in [
            (&b"a\nb"[..], Rule::BareLineFeed),
            (b"a\rb\r\n", Rule::BareCarriageReturn),
            (b"a\r\r\n", Rule::BareCarriageReturn),
            (b"a\0b\r\n", Rule::Nul),
            (b"a\x7f\r\n", Rule::Control),
            (b"a\x0b\r\n", Rule::Control),
        ] {
            assert_eq!(Lines(bytes).next(), Err(rule), "{bytes:?}");
        }
    }

    #[test]
    fn every_control_character_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..19 {
                let mut bytes = [b'\xff'; 19];
                bytes[at] = byte;
                let is_control = has_kind(byte, CONTROL);
                assert_eq!(control(&bytes), is_control.then_some(at), "{byte} at {at}");
                bytes[18] = b'\n';
                assert_eq!(control(&bytes), Some(if is_control { at } else { 18 }), "{byte} at {at}");
            }
        }
    }

    #[test]
    fn tokens_are_those_of_the_rfc() {
        assert!(is_token(b"M-SEARCH") && is_token(b"!#$%&'*+-.^_`|~09azAZ"));
        for byte in b"()<>@,;:\\\"/[]?={} \t\x7f\x80" {
            assert!(!is_token_byte(*byte), "{byte}");
        }
        assert!(!is_token(b""));
    }
}
