//! Judges the decoded head of a request of HTTP/2 (RFC 9113 §8.2 and §8.3).
//!
//! The h2 crate has refused what is malformed in frames, in names and in pseudo-header fields by then; this is what it
//! lets through and what HTTP/1 towards a target could misread.
//!
//! Invariant: what passes can be written as HTTP/1.1 that [`judge_http1`](super::judge_http1) would accept.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};

use super::fields::{Fields, judge_expectation, judge_length};
use super::lines::is_token;
use super::{MAX_FIELDS, MAX_METHOD_BYTES, MAX_NAME_BYTES, MAX_TARGET_BYTES, MAX_VALUE_BYTES, Rule, host};

/// Judges a head.
///
/// # Errors
/// The first rule that it breaks.
pub fn judge_http2(head: &Parts) -> Result<(), Rule> {
    judge_request(head)?;
    judge_host(head)?;
    // Crumbs of cookies are fields of their own here.
    if head.headers.len() > MAX_FIELDS {
        return Err(Rule::FieldCount);
    }
    let mut fields = Fields::default();
    let mut has_length = false;
    for (name, value) in &head.headers {
        if name.as_str().len() > MAX_NAME_BYTES {
            return Err(Rule::NameLength);
        }
        // In HTTP/2 the http crate takes a quotation mark for a letter of names; RFC 9110 §5.6.2 does not.
        if !is_token(name.as_str().as_bytes()) {
            return Err(Rule::NameGrammar);
        }
        let bytes = value.as_bytes();
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(Rule::ValueLength);
        }
        if matches!((bytes.first(), bytes.last()), (Some(b' ' | b'\t'), _) | (_, Some(b' ' | b'\t'))) {
            return Err(Rule::ValueSpace);
        }
        if *name == COOKIE {
            fields.count_cookie()?;
        } else if *name == CONTENT_LENGTH {
            if has_length {
                return Err(Rule::LengthRepeated);
            }
            has_length = true;
            judge_length(bytes)?;
        } else if *name == EXPECT {
            judge_expectation(bytes)?;
        } else if is_for_one_connection(name, value) {
            return Err(Rule::ConnectionField);
        }
    }
    Ok(())
}

fn judge_request(head: &Parts) -> Result<(), Rule> {
    if head.method == Method::CONNECT {
        return Err(Rule::MethodConnect);
    }
    if head.method.as_str().len() > MAX_METHOD_BYTES {
        return Err(Rule::MethodLength);
    }
    if head.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Rule::Scheme);
    }
    let target = head.uri.path_and_query().map_or("", |path| path.as_str());
    if target.len() > MAX_TARGET_BYTES {
        return Err(Rule::TargetLength);
    }
    if !target.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
        return Err(Rule::TargetBytes);
    }
    match target {
        "*" if head.method == Method::OPTIONS => Ok(()),
        "*" => Err(Rule::TargetAsterisk),
        _ if target.starts_with('/') => Ok(()),
        _ => Err(Rule::PathForm),
    }
}

fn judge_host(head: &Parts) -> Result<(), Rule> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Rule::HostRepeated);
    }
    if let Some(host) = host {
        host::check(host.as_bytes())?;
    }
    match (head.uri.authority(), host) {
        (None, None) => Err(Rule::AuthorityMissing),
        (Some(authority), host) => {
            host::check(authority.as_str().as_bytes())?;
            let differs = host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()));
            if differs { Err(Rule::AuthorityDiffers) } else { Ok(()) }
        }
        (None, Some(_)) => Ok(()),
    }
}

fn is_for_one_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(name)
        || (*name == TE && value != "trailers")
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::request::Builder;

    use super::*;

    fn judge(request: Builder) -> Result<(), Rule> {
        judge_http2(&request.body(()).expect("valid for the http crate").into_parts().0)
    }

    fn get() -> Builder {
        Request::get("http://a.test/b?c")
    }

    #[test]
    fn what_browsers_and_grpc_send_passes() {
        assert_eq!(judge(get()), Ok(()));
        assert_eq!(judge(get().header("host", "A.test").header("cookie", "a=b").header("cookie", "c=d")), Ok(()));
        assert_eq!(judge(get().header("te", "trailers").header("content-length", "5")), Ok(()));
        assert_eq!(judge(Request::get("/only-path").header("host", "a.test")), Ok(()));
        assert_eq!(judge(Request::options("*").header("host", "a.test")), Ok(()));
    }

    /// `content"-length` arrived at targets of HTTP/1.
    #[test]
    fn a_name_with_a_quotation_mark_is_none() {
        let name = |name: &[u8]| HeaderName::from_lowercase(name).expect("as the h2 crate makes it");
        assert_eq!(judge(get().header(name(b"content\"-length"), "1")), Err(Rule::NameGrammar));
        assert_eq!(judge(get().header(name(b"!#$%&'*+-.^_`|~09az"), "1")), Ok(()));
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let crumbs = (0..=super::super::MAX_COOKIE_FIELDS).fold(get(), |request, _| request.header("cookie", "a=b"));
        let fields = (0..=MAX_FIELDS).fold(get(), |request, number| request.header(format!("x-{number}"), "a"));
        for (request, rule) in [
            (Request::get("/a"), Rule::AuthorityMissing),
            (get().header("host", "b.test"), Rule::AuthorityDiffers),
            (get().header("host", "a.test").header("host", "a.test"), Rule::HostRepeated),
            (Request::get("http://u@a.test/"), Rule::HostUserinfo),
            (Request::get("ftp://a.test/"), Rule::Scheme),
            (Request::get("*").header("host", "a.test"), Rule::TargetAsterisk),
            (Request::connect("a.test:443"), Rule::MethodConnect),
            (get().header("content-length", "5").header("content-length", "5"), Rule::LengthRepeated),
            (get().header("content-length", "5,5"), Rule::LengthList),
            (get().header("content-length", "+5"), Rule::LengthGrammar),
            (get().header("expect", "tea"), Rule::Expectation),
            (get().header("x", " a"), Rule::ValueSpace),
            (get().header("x", "a\t"), Rule::ValueSpace),
            (get().header("connection", "close"), Rule::ConnectionField),
            (get().header("te", "gzip"), Rule::ConnectionField),
            (get().header("transfer-encoding", "chunked"), Rule::ConnectionField),
            (crumbs, Rule::CookieCount),
            (fields, Rule::FieldCount),
        ] {
            assert_eq!(judge(request), Err(rule));
        }
    }
}
