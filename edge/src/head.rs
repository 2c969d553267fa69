//! Reads the head of an HTTP/1 message as bytes, before anybody takes it apart.
//!
//! Invariant: nothing is read that would have to be put back but what came in one piece with the head, and an idle
//! stream holds no buffer.

mod view;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::guard::{MAX_FIELDS, MAX_HEAD_BYTES};
pub use view::RequestView;

/// What is read at once.
const SCRATCH_BYTES: usize = 16 * 1024;

/// A buffer of this size takes what follows in the next read without growing.
const LEAST_BUFFER_BYTES: usize = 1_024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    /// The other side ended the stream.
    #[error("the stream ended before a head was complete")]
    Ended,
    /// The head is longer than [`MAX_HEAD_BYTES`].
    #[error("a head of more than {MAX_HEAD_BYTES} bytes")]
    TooLong,
    /// These bytes begin no message of HTTP/1.
    #[error("this is not HTTP/1")]
    NotHttp,
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Failed(#[from] io::Error),
}

/// Which kind of message is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// It begins with a method.
    Request,
    /// It begins with a version.
    Response,
}

/// Reads into `buffer` until a head is complete; the answer is its length, and what came behind it stands in `buffer`
/// as well.
pub(crate) async fn read_head<S>(stream: &mut S, buffer: &mut BytesMut, message: Message) -> Result<usize, HeadError>
where
    S: AsyncRead + Unpin + ?Sized,
{
    let mut searched = 0;
    loop {
        if message == Message::Request {
            // RFC 9112 §2.2: empty lines before a request are to be ignored.
            let empty = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            buffer.advance(empty);
            searched = searched.min(buffer.len());
        }
        if let Some(length) = end_of_head(buffer, searched) {
            return Ok(length);
        }
        if !may_begin(buffer, message) {
            return Err(HeadError::NotHttp);
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Err(HeadError::TooLong);
        }
        // An end of four bytes may begin in what is there already.
        searched = buffer.len().saturating_sub(3);
        if read_some(stream, buffer).await? == 0 {
            return Err(HeadError::Ended);
        }
    }
}

/// Waits for bytes and appends them; 0 is the end of the stream.
pub(crate) async fn read_some<S>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<usize>
where
    S: AsyncRead + Unpin + ?Sized,
{
    poll_fn(|context| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
            let bytes = read.filled();
            if buffer.capacity() == 0 && !bytes.is_empty() {
                buffer.reserve(bytes.len().max(LEAST_BUFFER_BYTES));
            }
            buffer.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        })
    })
    .await
}

/// The length of the head, once its empty line is there; `searched` bytes are known not to hold the end. A line may end
/// without a carriage return (RFC 9112 §2.2); whether to accept that is for whoever parses the head.
pub(crate) fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    let mut from = searched;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == b'\n')?;
        let rest = bytes.get(at + 1..)?;
        if rest.starts_with(b"\n") {
            return Some(at + 2);
        }
        if rest.starts_with(b"\r\n") {
            return Some(at + 3);
        }
        from = at + 1;
    }
}

/// Whether `bytes`, which hold no whole head yet, may still become one.
fn may_begin(bytes: &[u8], message: Message) -> bool {
    const VERSION: &[u8] = b"HTTP/1.";
    match message {
        Message::Response => {
            let length = bytes.len().min(VERSION.len());
            bytes.get(..length) == VERSION.get(..length)
        }
        Message::Request => {
            let Some(line_end) = bytes.iter().position(|byte| *byte == b'\n') else {
                return bytes.first().is_none_or(u8::is_ascii_graphic);
            };
            bytes.get(..line_end).is_some_and(|line| line.windows(VERSION.len()).any(|part| part == VERSION))
        }
    }
}

/// The minor version and the status in the whole head of an answer.
pub(crate) fn parse_status(head: &[u8]) -> Result<(u8, u16), httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(head)?;
    match (response.version, response.code) {
        (Some(minor), Some(status)) => Ok((minor, status)),
        _ => Err(httparse::Error::Status),
    }
}

/// What an origin server is asked for in place of an absolute URI (RFC 9112 §3.2.1); nothing if `target` is none.
pub(crate) fn origin_form(target: &[u8]) -> Option<&[u8]> {
    let has_scheme = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|text| text.eq_ignore_ascii_case(scheme));
    let rest = [&b"http://"[..], b"https://"].into_iter().find(|scheme| has_scheme(scheme))?.len();
    let authority = target.get(rest..)?;
    match authority.iter().position(|byte| matches!(byte, b'/' | b'?')) {
        Some(at) if authority.get(at) == Some(&b'/') => authority.get(at..),
        // A query without a path is so rare that its bytes need not be kept.
        _ => Some(b"/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_uri_becomes_its_path_byte_for_byte() {
        for (target, path) in [
            ("http://a.test/b/../c%2f//?q=%20", Some("/b/../c%2f//?q=%20")),
            ("HTTP://a.test", Some("/")),
            ("https://a.test:1/", Some("/")),
            ("/http://a.test/b", None),
            ("*", None),
        ] {
            assert_eq!(origin_form(target.as_bytes()), path.map(str::as_bytes), "{target}");
        }
    }

    async fn read(bytes: &[u8], message: Message) -> Result<(String, String), HeadError> {
        // One byte at a time, so that every split is seen.
        let mut stream = tokio_test_stream(bytes);
        let mut buffer = BytesMut::new();
        let length = read_head(&mut stream, &mut buffer, message).await?;
        let rest = buffer.split_off(length);
        Ok((String::from_utf8_lossy(&buffer).into_owned(), String::from_utf8_lossy(&rest).into_owned()))
    }

    fn tokio_test_stream(bytes: &[u8]) -> impl AsyncRead + Unpin {
        struct OneByOne(Vec<u8>, usize);
        impl AsyncRead for OneByOne {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let at = self.1;
                if let Some(byte) = self.0.get(at).copied() {
                    buffer.put_slice(&[byte]);
                    self.1 += 1;
                }
                Poll::Ready(Ok(()))
            }
        }
        OneByOne(bytes.to_vec(), 0)
    }

    #[tokio::test]
    async fn a_head_ends_with_an_empty_line() {
        for (bytes, head) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"\r\n\r\nGET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"),
            (b"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\nHost: a\n\n"),
        ] {
            assert_eq!(read(bytes, Message::Request).await.expect("a head").0, head);
        }
    }

    #[tokio::test]
    async fn what_came_with_the_head_stays_behind_it() {
        let bytes = b"POST / HTTP/1.1\r\n\r\nbody\r\n\r\n";
        let mut buffer = BytesMut::from(&bytes[..]);
        let length = read_head(&mut tokio::io::empty(), &mut buffer, Message::Request).await.expect("a head");
        assert_eq!(&buffer[length..], b"body\r\n\r\n");
    }

    #[tokio::test]
    async fn other_protocols_are_told_apart_at_their_first_line() {
        for bytes in [&b"SSH-2.0-OpenSSH_9\r\n"[..], b"\x16\x03\x01\x02", b"GET /\r\n", b"\x00"] {
            assert!(matches!(read(bytes, Message::Request).await, Err(HeadError::NotHttp)), "{bytes:?}");
        }
        assert!(matches!(read(b"garbage", Message::Response).await, Err(HeadError::NotHttp)));
        assert!(matches!(read(b"HTTP/1.1 200 OK\r\n", Message::Response).await, Err(HeadError::Ended)));
    }

    #[tokio::test]
    async fn a_head_without_end_is_too_long() {
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 2 * MAX_HEAD_BYTES]].concat();
        let mut buffer = BytesMut::new();
        let read = read_head(&mut endless.as_slice(), &mut buffer, Message::Request).await;
        assert!(matches!(read, Err(HeadError::TooLong)));
        assert!(buffer.len() <= MAX_HEAD_BYTES + SCRATCH_BYTES);
    }
}
