//! The fields behind the content of an answer.
//!
//! Invariant: what frames or routes a message, what the edge itself speaks for, and what the circuit edits in answers never
//! passes as a trailer (RFC 9110 §6.5.1); nor does a line that is no field.

use super::fields::{Kind, kind_of, write};
use super::framing::Broken;

/// More trailers than anybody sends.
const MAX_TRAILERS: usize = 32;

/// Writes those of `section`, the lines of a trailer section, that a client may see.
pub(super) fn pass(section: &[u8], is_edited: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) -> Result<(), Broken> {
    if section.is_empty() {
        return Ok(());
    }
    let whole = [section, b"\r\n"].concat();
    let mut room = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let parsed = httparse::parse_headers(&whole, &mut room).map_err(|_| Broken("a trailer is no field"))?;
    let httparse::Status::Complete((_, fields)) = parsed else { return Err(Broken("a trailer is no field")) };
    for field in fields {
        let name = field.name.as_bytes();
        if kind_of(name) == Kind::Ordinary && !is_edited(name) {
            write(out, name, field.value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(section: &str) -> Result<String, Broken> {
        let mut out = Vec::new();
        pass(section.as_bytes(), |name| name == b"X-Edited", &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn only_ordinary_fields_pass() {
        assert_eq!(passed("").expect("nothing"), "");
        assert_eq!(
            passed("X-Sum: 1\r\nServer-Timing: a;dur=2\r\n").expect("valid"),
            "X-Sum: 1\r\nServer-Timing: a;dur=2\r\n"
        );
        for field in [
            "Content-Length: 3",
            "transfer-encoding: chunked",
            "Connection: close",
            "Set-Cookie: a=b",
            "Trailer: X",
            "Host: a",
            "Via: 1.1 a",
            "X-Request-Id: 1",
            "X-Edited: 1",
        ] {
            assert_eq!(passed(&format!("{field}\r\nX-Sum: 1\r\n")).expect("valid"), "X-Sum: 1\r\n", "{field}");
        }
    }

    #[test]
    fn a_line_that_is_no_field_breaks_the_answer() {
        for line in ["no colon here", "X : 1", "X\u{1}y: q", ": 1", " X: 1", "X: a\u{7f}"] {
            assert!(passed(&format!("{line}\r\n")).is_err(), "{line:?}");
        }
        assert!(passed(&"X: 1\r\n".repeat(MAX_TRAILERS + 1)).is_err());
    }
}
