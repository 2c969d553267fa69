//! Connections for requests that want to become something else.
//!
//! Pingora 0.9.1 writes the head of a request, queues the end of its (empty) body and then takes whichever comes
//! first: the queue or the target's answer, at random when both are there. If it takes a `101` first, the end of the
//! body that follows counts as the end of the new connection, and a WebSocket closes that has just been opened. It
//! takes a target that answers before the edge looks: one in four in an unoptimised build on two cores.
//!
//! Invariant: the queue always wins, because the first reads from such a connection find nothing; and the connection
//! serves one request, because pingora knows pooled connections by a descriptor that it does not have.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::ext::connect;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The queue is read in the first poll. Tokio may spoil that one when the task has used up its budget, and then the
/// second, which begins at the other end; a few more cost microseconds, once for each WebSocket.
const POLLS_WITHOUT_ANSWER: u8 = 4;

static CONNECTOR: LazyLock<Arc<dyn L4Connect + Send + Sync>> = LazyLock::new(|| Arc::new(Connector));

/// Tells the connections apart.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Makes `peer` one whose connection may be upgraded.
pub(super) fn for_upgrade(peer: &mut HttpPeer) {
    let mut hasher = DefaultHasher::new();
    (peer.group_key, CONNECTIONS.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
    peer.group_key = hasher.finish();
    peer.options.idle_timeout = Some(Duration::ZERO);
    peer.options.custom_l4 = Some(Arc::clone(&CONNECTOR));
}

#[derive(Debug)]
struct Connector;

/// A socket whose first reads find nothing.
#[derive(Debug)]
struct LateReader {
    socket: TcpStream,
    polls_left: u8,
}

// === impl Connector ===

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, address: &PingoraAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "a target has an address");
        };
        let socket = LateReader { socket: connect(address, None).await?, polls_left: POLLS_WITHOUT_ANSWER };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

// === impl LateReader ===

impl VirtualSocket for LateReader {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // Nobody asks for anything else.
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for LateReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.polls_left > 0 {
            self.polls_left -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for LateReader {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
