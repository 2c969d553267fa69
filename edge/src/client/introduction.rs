//! Reads the header with which a trusted proxy introduces a connection.
//!
//! Invariant: the first byte that is left in the stream is the client's own.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::proxy_header::{Introduction, MAX_BYTES, Progress, progress};

/// Why a connection was not introduced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntroductionError {
    /// The peer went without a byte, as load balancers do that only look whether somebody listens.
    #[error("the peer brought nothing")]
    Nothing,
    /// It does not begin with a header of the PROXY protocol.
    #[error("{0}")]
    Malformed(&'static str),
    /// The header did not come in time.
    #[error("the header took longer than {0:?}")]
    TooSlow(Duration),
    /// The peer went before its header was whole.
    #[error("the peer went within its header: {0}")]
    Broken(#[from] io::Error),
}

/// Reads the header off `stream`, which must have come within `time`.
pub(crate) async fn introduced(
    stream: &mut (impl AsyncRead + Unpin),
    time: Duration,
) -> Result<Introduction, IntroductionError> {
    timeout(time, read(stream)).await.map_err(|_| IntroductionError::TooSlow(time))?
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Introduction, IntroductionError> {
    let mut bytes = [0; MAX_BYTES];
    let mut length = 0;
    loop {
        let (read, space) = bytes.split_at_mut(length);
        let missing = match progress(read) {
            Progress::More(missing) => missing,
            Progress::Done(introduction) => return Ok(introduction),
            Progress::Malformed(why) => return Err(IntroductionError::Malformed(why)),
        };
        let Some(space) = space.get_mut(..missing) else { return Err(IntroductionError::Malformed("no end")) };
        match stream.read(space).await {
            Ok(0) | Err(_) if length == 0 => return Err(IntroductionError::Nothing),
            Err(error) => return Err(error.into()),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(more) => length += more,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::client::Ends;

    #[tokio::test]
    async fn what_follows_the_header_stays_in_the_stream() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.9 5 443\r\n\r\nGET").await.expect("room");
        let wanted =
            Ends { client: "192.0.2.1:5".parse().expect("valid"), local: "192.0.2.9:443".parse().expect("valid") };
        let introduction = introduced(&mut near, Duration::from_secs(5)).await.expect("a header");
        assert_eq!(introduction, Introduction::Of(wanted));
        drop(far);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.expect("the rest");
        assert_eq!(rest, b"\r\nGET");
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_drips_is_not_waited_for() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let dripping = tokio::spawn(async move {
            for byte in b"PROXY TCP4 192.0.2.1 192.0.2.9 5 443\r\n" {
                if far.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let error = introduced(&mut near, Duration::from_secs(5)).await.expect_err("too slow");
        assert!(matches!(error, IntroductionError::TooSlow(_)), "{error}");
        drop(near);
        dripping.await.expect("no panic");
    }
}
