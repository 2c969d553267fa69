//! The request line (RFC 9112 §3).
//!
//! Invariant: a line that passes has exactly two spaces, and its target is of a form that its method may have.

use super::lines::is_token;
use super::{MAX_METHOD_BYTES, MAX_TARGET_BYTES, Rule, host};

/// What the fields are to be judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestLine<'a> {
    /// Whether it is HTTP/1.1, and not HTTP/1.0.
    pub(super) is_http_11: bool,
    /// The host of an absolute URI.
    pub(super) authority: Option<&'a [u8]>,
}

/// Judges a line without its end.
pub(super) fn judge(line: &[u8]) -> Result<RequestLine<'_>, Rule> {
    let (method, rest) = split(line).ok_or_else(|| without_spaces(line))?;
    if !is_token(method) {
        return Err(if method.is_empty() || method.contains(&b'\t') {
            Rule::RequestLineSpaces
        } else {
            Rule::MethodGrammar
        });
    }
    if method.len() > MAX_METHOD_BYTES {
        return Err(Rule::MethodLength);
    }
    let (target, version) = split(rest).ok_or(Rule::VersionMissing)?;
    if target.is_empty() || target.contains(&b'\t') {
        return Err(Rule::RequestLineSpaces);
    }
    if target.len() > MAX_TARGET_BYTES {
        return Err(Rule::TargetLength);
    }
    let is_http_11 = judge_version(version)?;
    if let Some(byte) = target.iter().find(|byte| !(b'!'..=b'~').contains(byte) || **byte == b'#') {
        return Err(if *byte == b'#' { Rule::TargetFragment } else { Rule::TargetBytes });
    }
    Ok(RequestLine { is_http_11, authority: judge_target(method, target)? })
}

/// What is before the first space and behind it.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == b' ')?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

fn without_spaces(line: &[u8]) -> Rule {
    if line.contains(&b'\t') { Rule::RequestLineSpaces } else { Rule::NotHttp }
}

/// Whether it is HTTP/1.1.
fn judge_version(version: &[u8]) -> Result<bool, Rule> {
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Rule::VersionUnsupported)
        }
        // As in the preface of later versions.
        b"HTTP/2" | b"HTTP/3" => Err(Rule::VersionUnsupported),
        _ if version.is_empty() || version.contains(&b' ') || version.contains(&b'\t') => Err(Rule::RequestLineSpaces),
        _ => Err(Rule::VersionGrammar),
    }
}

/// The authority of a target in absolute form.
fn judge_target<'a>(method: &[u8], target: &'a [u8]) -> Result<Option<&'a [u8]>, Rule> {
    if method == b"CONNECT" {
        return Err(Rule::MethodConnect);
    }
    match target {
        [b'/', ..] => Ok(None),
        b"*" if method == b"OPTIONS" => Ok(None),
        b"*" => Err(Rule::TargetAsterisk),
        _ => absolute(target).map(Some),
    }
}

fn absolute(target: &[u8]) -> Result<&[u8], Rule> {
    let colon = target.iter().position(|byte| *byte == b':').ok_or(Rule::TargetForm)?;
    let (scheme, rest) = target.split_at_checked(colon).ok_or(Rule::TargetForm)?;
    let Some(rest) = rest.strip_prefix(b"://") else { return Err(Rule::TargetForm) };
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Rule::TargetScheme);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'\\')).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    match host::check(authority) {
        Ok(()) if rest.get(end) != Some(&b'\\') => Ok(authority),
        Err(Rule::HostUserinfo) => Err(Rule::TargetUserinfo),
        _ => Err(Rule::TargetAuthority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_of_a_target_are_for_the_methods_that_have_them() {
        for line in ["GET / HTTP/1.1", "GET /a?b=%zz|{} HTTP/1.0", "OPTIONS * HTTP/1.1", "M-SEARCH //a HTTP/1.1"] {
            assert_eq!(judge(line.as_bytes()).expect(line).authority, None);
        }
        for line in ["GET http://a.test/b HTTP/1.1", "GET HTTPS://a.test?c HTTP/1.1", "OPTIONS http://a.test HTTP/1.1"]
        {
            assert_eq!(judge(line.as_bytes()).expect(line).authority, Some(&b"a.test"[..]), "{line}");
        }
    }

    #[test]
    fn what_is_no_request_line_is_named() {
        let long = format!("{} / HTTP/1.1", "A".repeat(MAX_METHOD_BYTES + 1));
        let far = format!("GET /{} HTTP/1.1", "a".repeat(MAX_TARGET_BYTES));
        for (line, rule) in [
            ("", Rule::NotHttp),
            ("GET", Rule::NotHttp),
            ("GET\t/\tHTTP/1.1", Rule::RequestLineSpaces),
            ("GET /", Rule::VersionMissing),
            ("GET  / HTTP/1.1", Rule::RequestLineSpaces),
            ("GET /  HTTP/1.1", Rule::RequestLineSpaces),
            ("GET / HTTP/1.1 ", Rule::RequestLineSpaces),
            (" GET / HTTP/1.1", Rule::RequestLineSpaces),
            ("GET / a HTTP/1.1", Rule::RequestLineSpaces),
            ("GET(/) / HTTP/1.1", Rule::MethodGrammar),
            (&long, Rule::MethodLength),
            (&far, Rule::TargetLength),
            ("CONNECT a.test:443 HTTP/1.1", Rule::MethodConnect),
            ("GET / http/1.1", Rule::VersionGrammar),
            ("GET / HTTP/1.10", Rule::VersionGrammar),
            ("GET / HTTP/2.0", Rule::VersionUnsupported),
            ("GET / HTTP/1.2", Rule::VersionUnsupported),
            ("GET /#a HTTP/1.1", Rule::TargetFragment),
            ("GET /\u{e4} HTTP/1.1", Rule::TargetBytes),
            ("GET a HTTP/1.1", Rule::TargetForm),
            ("GET a.test:80 HTTP/1.1", Rule::TargetForm),
            ("GET * HTTP/1.1", Rule::TargetAsterisk),
            ("OPTIONS ** HTTP/1.1", Rule::TargetForm),
            ("GET ftp://a.test/ HTTP/1.1", Rule::TargetScheme),
            ("GET http:///a HTTP/1.1", Rule::TargetAuthority),
            ("GET http://a,b/ HTTP/1.1", Rule::TargetAuthority),
            ("GET http://a\\b/ HTTP/1.1", Rule::TargetAuthority),
            ("GET http://a@b/ HTTP/1.1", Rule::TargetUserinfo),
        ] {
            assert_eq!(judge(line.as_bytes()), Err(rule), "{line}");
        }
    }
}
