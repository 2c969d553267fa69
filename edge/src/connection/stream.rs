//! A client's stream: a plain socket, or what secures one.
//!
//! Invariant: code that needs the socket itself (to splice, to reset) asks for it, and does without where there is none.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::socket::reset;

/// Secures sockets that clients have opened.
#[async_trait]
pub trait Secure: fmt::Debug + Send + Sync {
    /// Agrees with the client on how to secure `socket`.
    async fn secure(&self, socket: TcpStream) -> io::Result<Box<dyn SecuredStream>>;
}

/// A stream that secures a socket: what is read and written here is not what passes the socket.
pub trait SecuredStream: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {
    /// The socket below, for its options and addresses. Nothing may be read from it or written to it.
    fn socket(&self) -> &TcpStream;

    /// How it is secured.
    fn security(&self) -> Security;
}

/// How a stream is secured, in the words of the protocol that does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// The version of the protocol, `TLSv1.3` for example.
    pub version: String,
    /// The cipher.
    pub cipher: String,
}

/// The stream of one client's connection.
#[derive(Debug)]
pub(crate) enum ClientStream {
    /// A socket, and nothing between.
    Plain(TcpStream),
    /// A socket, and something that secures it.
    Secured(Box<dyn SecuredStream>),
}

// === impl ClientStream ===

impl ClientStream {
    /// The socket, for its options and addresses.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secured(stream) => stream.socket(),
        }
    }

    /// The socket, if bytes may pass it without being seen.
    pub(crate) fn bare_socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Secured(_) => None,
        }
    }

    /// How it is secured, if it is.
    pub(crate) fn security(&self) -> Option<Security> {
        match self {
            Self::Plain(_) => None,
            Self::Secured(stream) => Some(stream.security()),
        }
    }

    /// Lets the client see an error when this is dropped, not an orderly end.
    pub(crate) fn reset(&self) {
        reset(self.socket());
    }
}

impl AsRawFd for ClientStream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

impl From<TcpStream> for ClientStream {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Secured(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Secured(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Secured(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Secured(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Secured(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
