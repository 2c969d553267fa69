//! Asks a target to switch protocols, and reads what it answers.
//!
//! Invariant: only a complete and well-formed head of HTTP/1.1 with status 101 is taken for consent; any other final
//! answer is an ordinary one, and everything that was read of it is handed on.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::head::{HeadError, Message, parse_status, read_head};

/// Informational answers (RFC 9110 §15.2) before the final one; a target that sends more is broken.
const MAX_INFORMATIONAL: usize = 16;

/// What the target has answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It speaks the new protocol from now on. These bytes, the head first, are for the client.
    Switched(BytesMut),
    /// An ordinary answer, of which this much is read.
    Ordinary(BytesMut),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The request could not be sent.
    #[error("the request could not be sent: {0}")]
    Send(#[source] io::Error),
    /// No head came.
    #[error("no answer came: {0}")]
    Head(#[from] HeadError),
    /// The head is not one of HTTP/1.
    #[error("the answer is not HTTP/1: {0}")]
    Malformed(#[from] httparse::Error),
    /// It answers and answers and says nothing final.
    #[error("more than {MAX_INFORMATIONAL} informational answers")]
    NothingFinal,
}

/// Sends `request`, a whole head, and reads until the final answer is there.
pub(crate) async fn shake_hands(target: &mut TcpStream, request: &[u8]) -> Result<Answer, HandshakeError> {
    target.write_all(request).await.map_err(HandshakeError::Send)?;
    let mut read = BytesMut::new();
    for _ in 0..=MAX_INFORMATIONAL {
        let length = read_head(target, &mut read, Message::Response).await?;
        let (minor, status) = parse_status(read.get(..length).unwrap_or_default())?;
        match status {
            101 if minor == 1 => return Ok(Answer::Switched(read)),
            // The client has not asked to be kept up to date, and a tunnel cannot be told from them.
            100 | 102..=199 => drop(read.split_to(length)),
            _ => return Ok(Answer::Ordinary(read)),
        }
    }
    Err(HandshakeError::NothingFinal)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn answer(bytes: &'static [u8]) -> Result<Answer, HandshakeError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let target = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut asked = [0; 4];
            socket.read_exact(&mut asked).await.expect("the request");
            socket.write_all(bytes).await.expect("sent");
        });
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        let answer = shake_hands(&mut socket, b"ASK!").await;
        target.await.expect("no panic");
        answer
    }

    #[tokio::test]
    async fn a_101_is_handed_on_with_what_came_behind_it() {
        let switched = answer(b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 101 Yes\r\nX-Odd: 1\r\n\r\nbytes").await;
        let Ok(Answer::Switched(bytes)) = switched else { panic!("{switched:?}") };
        assert_eq!(&bytes[..], b"HTTP/1.1 101 Yes\r\nX-Odd: 1\r\n\r\nbytes");
    }

    #[tokio::test]
    async fn nothing_else_is_consent() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nUpgrade: websocket\r\n\r\n"[..],
            b"HTTP/1.1 403 No\r\n\r\nwhy",
            b"HTTP/1.0 101 Old\r\n\r\n",
        ] {
            let ordinary = answer(bytes).await;
            let Ok(Answer::Ordinary(read)) = ordinary else { panic!("{ordinary:?}") };
            assert_eq!(&read[..], bytes);
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        assert!(matches!(answer(b"SSH-2.0-x\r\n").await, Err(HandshakeError::Head(HeadError::NotHttp))));
        assert!(matches!(answer(b"HTTP/1.1 101 Sw").await, Err(HandshakeError::Head(HeadError::Ended))));
        assert!(matches!(answer(b"HTTP/1.1 1x1 A\r\n\r\n").await, Err(HandshakeError::Malformed(_))));
        let endless = b"HTTP/1.1 100 Go on\r\n\r\n".repeat(MAX_INFORMATIONAL + 1).leak();
        assert!(matches!(answer(endless).await, Err(HandshakeError::NothingFinal)));
    }
}
