//! What connected sockets are told: to find out about peers that vanished without a word, and to end with an error.
//!
//! Invariant: a connection whose peer is gone ends within two and a half minutes, however silent it may be.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Silence before the first probe.
const SILENCE: Duration = Duration::from_secs(60);

/// Between probes.
const INTERVAL: Duration = Duration::from_secs(15);

/// Probes without an answer before the connection counts as dead.
const PROBES: u32 = 6;

/// Lets the system probe whether the peer is still there, and sends small pieces at once. A socket that does not take
/// the options works without them.
pub(crate) fn keep_alive(stream: &TcpStream) {
    let probing = TcpKeepalive::new().with_time(SILENCE).with_interval(INTERVAL).with_retries(PROBES);
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_tcp_keepalive(&probing).and_then(|()| stream.set_nodelay(true)) {
        tracing::debug!(%error, "a socket does not take its options");
    }
}

/// Closes a connection, when it is dropped, so that its peer sees an error and not an empty stream.
pub(crate) fn reset(socket: &TcpStream) {
    // Without it the peer sees an orderly end, which is as good as nothing better.
    let _ = socket.set_zero_linger();
}

/// How long the client may go on sending after that: what is not read when a socket closes makes the system reset the
/// connection, and a reset takes an answer away that has not been read.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How much it may send meanwhile, a few windows of a slow line.
const LINGER_BYTES: usize = 256 * 1024;

/// Writes all of `bytes`, and whatever a secured stream still holds of it.
pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends our direction, and waits for the client to end its own.
pub(crate) async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let lingering = async {
        stream.shutdown().await?;
        drain(stream).await;
        std::io::Result::Ok(())
    };
    let _ = timeout(LINGER_TIME, lingering).await;
}

/// Throws away what the client still sends, to its end or to [`LINGER_BYTES`].
async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    // On the heap: it must not make the future of every connection larger.
    let mut scratch = vec![0; 4096];
    let mut left = LINGER_BYTES;
    while let Ok(1..) = stream.read(&mut scratch).await.inspect(|read| left = left.saturating_sub(*read)) {
        if left == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_probes_its_peer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        keep_alive(&stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("an option") && stream.nodelay().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), SILENCE);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), PROBES);
    }
}
