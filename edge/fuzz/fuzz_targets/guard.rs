//! Heads of HTTP/1 as they come.
//!
//! Invariant: what passes is read by another reader, and by the simplest one, as the same request; nothing can be put
//! into it that says in another way where it ends or for whom it is.

#![no_main]

use edge::guard::{Judged, MAX_FIELDS, MAX_HEAD_BYTES, judge_http1, judge_start};
use libfuzzer_sys::fuzz_target;

/// The file itself: with the crate, pingora and OpenSSL would have to be built with instrumentation.
#[path = "../../src"]
#[allow(dead_code, unused_imports, reason = "the guard of HTTP/2 has a target of its own")]
mod edge {
    pub(crate) mod guard;
}

/// Fields that no head may have beside itself.
const FRAMING: [&str; 3] = ["host", "content-length", "transfer-encoding"];

fuzz_target!(|head: &[u8]| {
    let status = judge_start(head).status();
    assert!((400..=505).contains(&status), "{status}");
    match judge_http1(head) {
        Ok(judged) => accepted(head, judged),
        Err(rule) => assert!((400..=505).contains(&rule.status()), "{rule}"),
    }
});

/// The simplest reader.
struct Head<'a> {
    method: &'a str,
    target: &'a str,
    version: &'a str,
    fields: Vec<(String, &'a [u8])>,
}

impl<'a> Head<'a> {
    fn read(head: &'a [u8]) -> Self {
        let lines = head.strip_suffix(b"\r\n\r\n").expect("ends with an empty line");
        let mut lines = split(lines, b"\r\n").into_iter();
        let line = std::str::from_utf8(lines.next().expect("a request line")).expect("ASCII");
        let words: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = words[..] else { panic!("{line}") };
        let fields = lines.map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
            let name = std::str::from_utf8(&line[..colon]).expect("ASCII");
            (name.to_ascii_lowercase(), line[colon + 1..].trim_ascii())
        });
        Self { method, target, version, fields: fields.collect() }
    }

    fn values(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| *value).collect()
    }
}

fn split<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(separator.len()).position(|window| window == separator) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}

fn accepted(bytes: &[u8], judged: Judged) {
    assert!(bytes.len() <= MAX_HEAD_BYTES);
    let head = Head::read(bytes);
    for line in split(bytes, b"\r\n") {
        let is_control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
        assert!(!line.iter().any(|byte| is_control(*byte)), "{}", line.escape_ascii());
    }
    read_by_another(bytes, &head);
    framing(&head, judged);
    changed(bytes, &head);
}

/// As pingora reads it.
fn read_by_another(bytes: &[u8], head: &Head<'_>) {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!((request.method, request.path), (Some(head.method), Some(head.target)));
    assert_eq!(request.version.map(|minor| format!("HTTP/1.{minor}")).as_deref(), Some(head.version));
    assert_eq!(request.headers.len(), head.fields.len());
    for (read, (name, value)) in request.headers.iter().zip(&head.fields) {
        assert!(read.name.eq_ignore_ascii_case(name), "{} {name}", read.name);
        assert_eq!(read.value.trim_ascii(), *value, "{name}");
    }
}

/// One way to say for whom it is and where it ends.
fn framing(head: &Head<'_>, judged: Judged) {
    let is_http_11 = head.version == "HTTP/1.1";
    let [hosts, lengths, encodings] = FRAMING.map(|name| head.values(name));
    assert!(hosts.len() <= 1 && (!hosts.is_empty() || !is_http_11), "{} hosts", hosts.len());
    assert!(lengths.len() + encodings.len() <= 1, "{} lengths, {} encodings", lengths.len(), encodings.len());
    assert!(encodings.is_empty() || is_http_11);
    assert!(encodings.iter().all(|encoding| encoding.eq_ignore_ascii_case(b"chunked")));
    let length = lengths.first().map_or(0, |length| {
        assert!(length.iter().all(u8::is_ascii_digit), "{}", length.escape_ascii());
        std::str::from_utf8(length).expect("ASCII").parse::<i64>().expect("a number")
    });
    assert_eq!(judged.has_content, length > 0 || !encodings.is_empty());
    assert!(!judged.is_bare_upgrade || (is_http_11 && !judged.has_content && !head.values("upgrade").is_empty()));
    if let Some(host) = hosts.first() {
        assert!(!host.is_empty() && !host.iter().any(|byte| b" \t/@?#\\,;".contains(byte)), "{}", host.escape_ascii());
        if let Some((_, rest)) = head.target.split_once("://").filter(|_| !head.target.starts_with('/')) {
            assert!(rest.as_bytes().starts_with(host), "{} {}", head.target, host.escape_ascii());
        }
    }
    let options = head.values("connection").into_iter().flat_map(|value| split(value, b",")).map(<[u8]>::trim_ascii);
    for option in options {
        assert!(!FRAMING.iter().any(|name| option.eq_ignore_ascii_case(name.as_bytes())), "{}", option.escape_ascii());
    }
}

/// What makes it another request makes it none.
fn changed(bytes: &[u8], head: &Head<'_>) {
    let first = split(bytes, b"\r\n")[0].len() + 2;
    let last = bytes.len() - 2;
    let is_refused = |at: usize, inserted: &str| {
        let changed = [&bytes[..at], inserted.as_bytes(), &bytes[at..]].concat();
        assert!(judge_http1(&changed).is_err(), "{inserted:?} at {at} of {}", bytes.escape_ascii());
    };
    for at in [first, last] {
        for line in
            ["\r\n", "\n", "\r", "\0", " x: y\r\n", "x : y\r\n", ":x: y\r\n", "x\r\n", "x: y\n", "Connection: host\r\n"]
        {
            is_refused(at, line);
        }
        let is_framed = !head.values("content-length").is_empty() || !head.values("transfer-encoding").is_empty();
        if is_framed {
            is_refused(at, "content-LENGTH: 0\r\n");
            is_refused(at, "Transfer-encoding: chunked\r\n");
        }
        is_refused(at, "Content-Length: 1\r\nContent-Length: 1\r\n");
        is_refused(at, "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n");
        is_refused(at, "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n");
        is_refused(at, "Transfer-Encoding: identity\r\n");
        if let Some(host) = head.values("host").first() {
            is_refused(at, &format!("HOST: {}\r\n", host.escape_ascii()));
        }
    }
    is_refused(0, "\r\n");
    is_refused(0, " ");
    is_refused(bytes.len(), "G");
    for end in [bytes.len() - 1, bytes.len() - 2, first, first - 1, bytes.len() / 2] {
        assert!(judge_http1(&bytes[..end]).is_err(), "the first {end} of {}", bytes.escape_ascii());
    }
}
