//! A client's stream as pingora takes it.
//!
//! Invariant: bytes pass unchanged; what pingora asks about the socket and about what secures it is answered with what is
//! true of them.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::rewound::Rewound;
use crate::connection::{ClientStream, Security};

/// A client's stream with the layers between it and pingora.
pub(super) struct HttpStream<S> {
    layers: S,
    socket: Arc<SocketDigest>,
    security: Option<Arc<SslDigest>>,
    id: UniqueIDType,
}

// === impl HttpStream ===

impl<S> HttpStream<S> {
    /// Puts what `layer` makes of a rewound stream between `stream` and pingora; `first_bytes` are read again.
    pub(super) fn new(stream: ClientStream, first_bytes: Vec<u8>, layer: impl FnOnce(Rewound) -> S) -> Self {
        let id = stream.as_raw_fd();
        let security = stream
            .security()
            .map(|Security { version, cipher }| Arc::new(SslDigest::new(cipher, version, None, None, Vec::new())));
        let socket = Arc::new(SocketDigest::from_raw_fd(id));
        Self { layers: layer(Rewound::new(stream, first_bytes)), socket, security, id }
    }

    /// The layers, in place.
    pub(super) fn layers_mut(&mut self) -> &mut S {
        &mut self.layers
    }

    /// The layers.
    pub(super) fn into_layers(self) -> S {
        self.layers
    }
}

impl<S> fmt::Debug for HttpStream<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpStream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.layers).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.layers).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.layers).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.layers.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.layers).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.layers).poll_shutdown(context)
    }
}

// What pingora asks of a stream.

#[async_trait]
impl<S: AsyncWrite + Send + Unpin> Shutdown for HttpStream<S> {
    async fn shutdown(&mut self) {
        if let Err(error) = self.layers.shutdown().await {
            tracing::debug!(%error, "a client's stream does not end in order");
        }
    }
}

impl<S> UniqueID for HttpStream<S> {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl<S> Ssl for HttpStream<S> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.security.clone()
    }
}

impl<S> Peek for HttpStream<S> {}

impl<S> GetTimingDigest for HttpStream<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        // The record of each request has its own times.
        Vec::new()
    }
}

impl<S> GetProxyDigest for HttpStream<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<S> GetSocketDigest for HttpStream<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[derive(Debug)]
    struct Double(TcpStream);

    impl AsyncRead for Double {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Double {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl crate::connection::SecuredStream for Double {
        fn socket(&self) -> &TcpStream {
            &self.0
        }

        fn security(&self) -> Security {
            Security { version: "v1".to_owned(), cipher: "none".to_owned() }
        }
    }

    #[tokio::test]
    async fn pingora_hears_what_is_true_of_the_socket_and_of_what_secures_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (socket, peer) = listener.accept().await.expect("accepts");
        let plain = HttpStream::new(client.into(), Vec::new(), |stream| stream);
        assert!(plain.get_ssl_digest().is_none());
        let secured = ClientStream::Secured(Box::new(Double(socket)));
        let secured = HttpStream::new(secured, Vec::new(), |stream| stream);
        let digest = secured.get_ssl_digest().expect("it is secured");
        assert_eq!((digest.version.as_ref(), digest.cipher.as_ref()), ("v1", "none"));
        let socket = secured.get_socket_digest().expect("a socket");
        assert_eq!(socket.peer_addr().and_then(|address| address.as_inet()), Some(&peer));
    }
}
