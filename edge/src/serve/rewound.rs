//! A client's stream from its first byte on, whatever was read of it to find out its protocol.
//!
//! Invariant: those bytes are read first, each once; what is written waits until a segment is full or it is flushed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

use crate::connection::ClientStream;

/// Bytes buffered on the way to a client before they go out, a TCP segment.
const WRITE_BUFFER_BYTES: usize = 1460;

/// The stream.
pub(super) struct Rewound {
    first_bytes: Vec<u8>,
    stream: BufWriter<ClientStream>,
}

// === impl Rewound ===

impl Rewound {
    /// Reads `first_bytes` again and then what `stream` brings.
    pub(super) fn new(stream: ClientStream, first_bytes: Vec<u8>) -> Self {
        Self { first_bytes, stream: BufWriter::with_capacity(WRITE_BUFFER_BYTES, stream) }
    }

    /// The client's stream, if nothing of it waits here: nothing does between two requests.
    pub(super) fn bare_mut(&mut self) -> Option<&mut ClientStream> {
        let is_bare = self.first_bytes.is_empty() && self.stream.buffer().is_empty();
        is_bare.then(|| self.stream.get_mut())
    }

    /// The client's stream. First bytes that were not read, and what was not flushed, are lost.
    pub(super) fn into_stream(self) -> ClientStream {
        self.stream.into_inner()
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first_bytes.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.first_bytes.len().min(buffer.remaining());
        let rest = self.first_bytes.split_off(count);
        buffer.put_slice(&std::mem::replace(&mut self.first_bytes, rest));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_was_read_too_early_is_read_first_however_little_is_read_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (socket, _) = listener.accept().await.expect("accepts");
        client.write_all(b"rest").await.expect("sends");
        let mut stream = Rewound::new(socket.into(), b"early ".to_vec());
        let mut read = [0; 10];
        for byte in &mut read {
            *byte = stream.read_u8().await.expect("a byte");
        }
        assert_eq!(&read, b"early rest");
    }
}
