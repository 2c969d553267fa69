//! The fields that say for whom a request is, where it ends and what becomes of its connection.
//!
//! Invariant: at the end of a head at most one field says where the request ends, and it says so in one way only.

use super::{MAX_COOKIE_FIELDS, Rule, host};

/// Fields that `Connection` must not name: without them the request would be another one (RFC 9110 §7.6.1), or would
/// lose what the edge says or checks.
const NOT_FOR_ONE_CONNECTION: [&[u8]; 15] = [
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"origin",
    b"transfer-encoding",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
];

/// What the fields have said so far.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) host: Option<&'a [u8]>,
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
    pub(super) has_upgrade: bool,
    pub(super) names_upgrade: bool,
    cookies: usize,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Takes one field; the value has no white space around it.
    pub(super) fn take(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Rule> {
        // Few names have a length that matters.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(value),
            6 if name.eq_ignore_ascii_case(b"cookie") => self.count_cookie(),
            6 if name.eq_ignore_ascii_case(b"expect") => judge_expectation(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.has_upgrade = true;
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.take_options(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_encoding(value),
            _ => Ok(()),
        }
    }

    fn take_host(&mut self, value: &'a [u8]) -> Result<(), Rule> {
        if self.host.is_some() {
            return Err(Rule::HostRepeated);
        }
        host::check(value)?;
        self.host = Some(value);
        Ok(())
    }

    pub(super) fn count_cookie(&mut self) -> Result<(), Rule> {
        self.cookies += 1;
        if self.cookies > MAX_COOKIE_FIELDS { Err(Rule::CookieCount) } else { Ok(()) }
    }

    fn take_options(&mut self, value: &[u8]) -> Result<(), Rule> {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"upgrade") {
                self.names_upgrade = true;
            } else if NOT_FOR_ONE_CONNECTION.iter().any(|name| option.eq_ignore_ascii_case(name)) {
                return Err(Rule::ConnectionNames);
            }
        }
        Ok(())
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), Rule> {
        if self.length.is_some() {
            return Err(Rule::LengthRepeated);
        }
        if self.is_chunked {
            return Err(Rule::LengthWithEncoding);
        }
        self.length = Some(judge_length(value)?);
        Ok(())
    }

    fn take_encoding(&mut self, value: &[u8]) -> Result<(), Rule> {
        if self.is_chunked {
            return Err(Rule::EncodingRepeated);
        }
        if self.length.is_some() {
            return Err(Rule::LengthWithEncoding);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.is_chunked = true;
            return Ok(());
        }
        Err(fault_of_encoding(value))
    }
}

/// A number of bytes that fits a counter with a sign, as some targets have.
pub(super) fn judge_length(value: &[u8]) -> Result<u64, Rule> {
    if value.contains(&b',') {
        return Err(Rule::LengthList);
    }
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Rule::LengthGrammar);
    }
    let length = value
        .iter()
        .try_fold(0_i64, |length, digit| length.checked_mul(10)?.checked_add(i64::from(digit.saturating_sub(b'0'))));
    length.and_then(|length| u64::try_from(length).ok()).ok_or(Rule::LengthTooLarge)
}

/// An expectation that nobody here or behind knows is not passed on.
pub(super) fn judge_expectation(value: &[u8]) -> Result<(), Rule> {
    if value.eq_ignore_ascii_case(b"100-continue") { Ok(()) } else { Err(Rule::Expectation) }
}

/// What is wrong with a list of codings that is not `chunked`.
fn fault_of_encoding(value: &[u8]) -> Rule {
    let mut chunked = 0_usize;
    let mut last = &b""[..];
    for coding in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let name = coding.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if !super::lines::is_token(name) {
            return Rule::EncodingGrammar;
        }
        chunked += usize::from(name.eq_ignore_ascii_case(b"chunked"));
        last = coding;
    }
    if chunked > 1 {
        Rule::EncodingRepeated
    } else if !last.eq_ignore_ascii_case(b"chunked") {
        Rule::EncodingNotChunked
    } else {
        Rule::EncodingUnknown
    }
}
