//! What stands in for TLS: streams that are no plain sockets.
//!
//! Invariant: the test's own questions to the worker API, from 127.0.0.1, are never masked, refused or kept waiting.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use edge::{Secure, SecuredStream, Security};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Makes a byte of ASCII one that is none.
const MASK: u8 = 0xa5;

/// What is read ahead, and what may wait for a flush: as much as a relay copies at once, so that it would want a pipe.
const RECORD_BYTES: usize = 64 * 1024;

/// A client's side of a connection.
pub(super) type Line = Box<dyn Duplex>;

/// Both directions of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Duplex for S {}

/// How the connections of a case are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Securing {
    /// Not at all.
    Plain,
    /// By a stream that changes nothing.
    Transparent,
    /// By a stream that masks every byte on the wire.
    Masking,
}

/// Secures connections, or does not manage to.
#[derive(Debug)]
pub(super) enum Double {
    Transparent,
    Masking,
    /// Agrees with nobody so many times, and changes nothing after that.
    Failing(AtomicUsize),
    /// Comes to no end with anybody.
    Stuck,
}

/// Changes nothing.
#[derive(Debug)]
struct Transparent(TcpStream);

/// Masks every byte. As TLS may, it reads ahead, and sends what is written when it is flushed.
#[derive(Debug)]
struct Masked {
    socket: TcpStream,
    read_ahead: Vec<u8>,
    unsent: Vec<u8>,
}

/// The bytes as they are on the wire, and back.
pub(super) fn mask(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ MASK).collect()
}

// === impl Securing ===

impl Securing {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Transparent, Self::Masking];

    /// What the edge secures connections with.
    pub(super) fn secure(self) -> Option<Arc<dyn Secure>> {
        match self {
            Self::Plain => None,
            Self::Transparent => Some(Arc::new(Double::Transparent)),
            Self::Masking => Some(Arc::new(Double::Masking)),
        }
    }

    /// The client's side of `socket`.
    pub(super) fn line(self, socket: TcpStream) -> Line {
        match self {
            Self::Plain | Self::Transparent => Box::new(socket),
            Self::Masking => Box::new(Masked::new(socket)),
        }
    }
}

// === impl Double ===

#[async_trait]
impl Secure for Double {
    async fn secure(&self, socket: TcpStream) -> io::Result<Box<dyn SecuredStream>> {
        let is_the_test_itself = socket.peer_addr()?.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST);
        match self {
            _ if is_the_test_itself => Ok(Box::new(Transparent(socket))),
            Self::Transparent => Ok(Box::new(Transparent(socket))),
            Self::Masking => Ok(Box::new(Masked::new(socket))),
            Self::Failing(times) => {
                let may_fail = times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if may_fail.is_ok() {
                    Err(io::Error::other("nothing in common"))
                } else {
                    Ok(Box::new(Transparent(socket)))
                }
            }
            Self::Stuck => std::future::pending().await,
        }
    }
}

// === impl Transparent ===

impl SecuredStream for Transparent {
    fn socket(&self) -> &TcpStream {
        &self.0
    }

    fn security(&self) -> Security {
        Security { version: "Double".to_owned(), cipher: "none".to_owned() }
    }
}

impl AsyncRead for Transparent {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Transparent {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

// === impl Masked ===

impl Masked {
    fn new(socket: TcpStream) -> Self {
        Self { socket, read_ahead: Vec::new(), unsent: Vec::new() }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(context, &self.unsent))?;
            self.unsent.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl SecuredStream for Masked {
    fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn security(&self) -> Security {
        Security { version: "Double".to_owned(), cipher: "mask".to_owned() }
    }
}

impl AsyncRead for Masked {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_ahead.is_empty() {
            let mut record = vec![0; RECORD_BYTES];
            let mut read = ReadBuf::new(&mut record);
            ready!(Pin::new(&mut this.socket).poll_read(context, &mut read))?;
            this.read_ahead = mask(read.filled());
        }
        let count = this.read_ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.read_ahead[..count]);
        this.read_ahead.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Masked {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unsent.len() >= RECORD_BYTES {
            ready!(this.poll_send(context))?;
        }
        let count = bytes.len().min(RECORD_BYTES - this.unsent.len());
        this.unsent.extend(mask(&bytes[..count]));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.socket).poll_shutdown(context)
    }
}
