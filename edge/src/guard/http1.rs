//! Judges the head of a request of HTTP/1 as it came (RFC 9112).
//!
//! Invariant: a head that passes is read in one way by every reader that follows RFC 9112, however lenient.

use super::fields::Fields;
use super::lines::{Lines, is_token_byte};
use super::request_line::{self, RequestLine};
use super::{MAX_FIELDS, MAX_HEAD_BYTES, MAX_NAME_BYTES, MAX_TARGET_BYTES, MAX_VALUE_BYTES, Rule};

/// What a head that passed asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Whether it asks for another protocol and has no content: HTTP/1.1, `Upgrade`, named by `Connection` (RFC 9110
    /// §7.8), no `Content-Length` but 0 and no `Transfer-Encoding`.
    pub is_bare_upgrade: bool,
    /// Whether content follows.
    pub has_content: bool,
}

/// Judges a whole head, its empty line included.
///
/// # Errors
/// The first rule that it breaks.
pub fn judge_http1(head: &[u8]) -> Result<Judged, Rule> {
    if head.len() > MAX_HEAD_BYTES {
        return Err(Rule::HeadLength);
    }
    let mut lines = Lines(head);
    let line = request_line::judge(lines.next()?)?;
    let mut fields = Fields::default();
    let mut count = 0;
    loop {
        let field = lines.next()?;
        if field.is_empty() {
            break;
        }
        count += 1;
        if count > MAX_FIELDS {
            return Err(Rule::FieldCount);
        }
        let (name, value) = split(field, count == 1)?;
        fields.take(name, value)?;
    }
    if !lines.0.is_empty() {
        return Err(Rule::Incomplete);
    }
    conclude(line, &fields)
}

/// What is wrong with bytes of which no head was made.
pub fn judge_start(bytes: &[u8]) -> Rule {
    match Lines(bytes).next() {
        Ok(line) => request_line::judge(line).err().unwrap_or(Rule::HeadLength),
        Err(Rule::Incomplete) if bytes.len() > MAX_TARGET_BYTES => Rule::TargetLength,
        // `GET /` and a line feed, as in HTTP/0.9.
        Err(Rule::BareLineFeed | Rule::Incomplete) => Rule::NotHttp,
        Err(rule) => rule,
    }
}

fn conclude(line: RequestLine<'_>, fields: &Fields<'_>) -> Result<Judged, Rule> {
    let RequestLine { is_http_11, authority } = line;
    match (fields.host, authority) {
        (None, _) if is_http_11 => return Err(Rule::HostMissing),
        // Byte for byte, as pingora compares them.
        (Some(host), Some(authority)) if host != authority => return Err(Rule::TargetHostDiffers),
        _ => {}
    }
    if fields.is_chunked && !is_http_11 {
        return Err(Rule::EncodingInOldVersion);
    }
    let has_content = fields.is_chunked || fields.length.is_some_and(|length| length > 0);
    let is_bare_upgrade = is_http_11 && fields.has_upgrade && fields.names_upgrade && !has_content;
    Ok(Judged { is_bare_upgrade, has_content })
}

/// The name and the value of a field, without the white space around the value.
fn split(field: &[u8], is_first: bool) -> Result<(&[u8], &[u8]), Rule> {
    let end = field.iter().position(|byte| !is_token_byte(*byte)).ok_or(Rule::ColonMissing)?;
    let (name, rest) = field.split_at_checked(end).ok_or(Rule::ColonMissing)?;
    let Some(value) = rest.strip_prefix(b":").filter(|_| !name.is_empty()) else {
        return Err(fault_of_name(name, rest, is_first));
    };
    if name.len() > MAX_NAME_BYTES {
        return Err(Rule::NameLength);
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(Rule::ValueLength);
    }
    Ok((name, value.trim_ascii()))
}

/// What is wrong with a field whose name is not followed by a colon.
fn fault_of_name(name: &[u8], rest: &[u8], is_first: bool) -> Rule {
    match rest {
        [b' ' | b'\t', ..] if name.is_empty() && is_first => Rule::LeadingSpace,
        [b' ' | b'\t', ..] if name.is_empty() => Rule::ObsoleteFold,
        [b' ' | b'\t', ..] if rest.trim_ascii_start().first() == Some(&b':') => Rule::SpaceBeforeColon,
        [b':', first, pseudo @ ..] if is_token_byte(*first) && pseudo.contains(&b':') => Rule::PseudoField,
        [b':', ..] => Rule::NameEmpty,
        _ if rest.contains(&b':') => Rule::NameGrammar,
        _ => Rule::ColonMissing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(fields: &str) -> Result<Judged, Rule> {
        judge_http1(format!("GET /ws HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn what_browsers_and_programs_send_passes() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost:a:80\r\ncontent-length:\t5 \r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nTE: trailers\r\nTrailer: X\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX: \u{e4}\r\nCookie: a=b; c=d\r\nCookie: e=f\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 007\r\n\r\n",
            "GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\n\r\n",
        ] {
            assert!(judge_http1(head.as_bytes()).is_ok(), "{head}: {:?}", judge_http1(head.as_bytes()));
        }
    }

    #[test]
    fn only_a_request_without_content_is_a_bare_upgrade() {
        let is_bare = |fields: &str| judge(fields).is_ok_and(|judged| judged.is_bare_upgrade);
        assert!(is_bare("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
        assert!(is_bare("UPGRADE: websocket\r\nconnection: keep-alive, upgrade\r\nContent-Length: 0\r\n"));
        for fields in [
            "Upgrade: websocket\r\n",
            "Connection: Upgrade\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
            "X-Upgrade: websocket\r\nConnection: upgrade\r\n",
        ] {
            assert!(!is_bare(fields), "{fields:?}");
            // It is an ordinary request: clients of Java offer h2c beside content.
            assert!(judge(fields).is_ok(), "{fields:?}");
        }
        let old = judge_http1(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(old, Ok(Judged { is_bare_upgrade: false, has_content: false }));
    }

    #[test]
    fn bytes_behind_the_head_are_no_part_of_it() {
        assert_eq!(judge_http1(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx"), Err(Rule::Incomplete));
        assert_eq!(judge_http1(b"GET / HTTP/1.1\r\nHost: a\r\n"), Err(Rule::Incomplete));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = judge_http1(&bytes);
            let _ = judge_start(&bytes);
        }

        /// One byte that is changed never lets a second reading of where a message ends through.
        #[test]
        fn a_head_that_passes_has_no_second_reading(at in 0_usize..90, byte in any::<u8>()) {
            let mut head = b"POST /path HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: 5\r\nX: y\r\n\r\n".to_vec();
            if let Some(place) = head.get_mut(at) {
                *place = byte;
            }
            if judge_http1(&head).is_ok() {
                let text = String::from_utf8_lossy(&head).into_owned();
                prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']));
                for line in text.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
                    let name = line.split_once(':').map_or("", |(name, _)| name);
                    let is_visible = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
                    prop_assert!(is_visible, "{}", line);
                }
            }
        }
    }
}
