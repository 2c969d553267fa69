//! Targets for measurements of what is relayed: they agree to every upgrade and send back what they get, or send as much
//! as they are asked for.
//!
//! Invariant: they run beside the client and outside of every process that is measured.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What [`Target::Upgrades`] answers, to the key of the example in RFC 6455 §1.3: haproxy checks it.
pub(crate) const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Reads up to the end of a head.
pub(crate) async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// What a target does with each connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// It agrees to an upgrade and then sends back what it gets.
    Upgrades,
    /// It sends zeros: as many bytes as the first eight bytes that it gets say.
    Sends,
    /// It answers one request with so many bytes of content, and takes as long as the client lets it.
    Answers(usize),
}

// === impl Target ===

impl Target {
    /// Starts it.
    pub(crate) async fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                tokio::spawn(self.serve(stream));
            }
        });
        address
    }

    /// A client that goes ends a connection, and that is no fault.
    async fn serve(self, mut stream: TcpStream) -> io::Result<()> {
        match self {
            Self::Upgrades => {
                read_head(&mut stream).await?;
                stream.write_all(AGREED.as_bytes()).await?;
                let mut buffer = [0; 1024];
                loop {
                    let count = stream.read(&mut buffer).await?;
                    if count == 0 {
                        return Ok(());
                    }
                    stream.write_all(&buffer[..count]).await?;
                }
            }
            Self::Sends => {
                let mut left = stream.read_u64().await?;
                let block = vec![0; 256 * 1024];
                while left > 0 {
                    let count = block.len().min(usize::try_from(left).expect("it fits"));
                    stream.write_all(&block[..count]).await?;
                    left -= count as u64;
                }
                Ok(())
            }
            Self::Answers(bytes) => {
                read_head(&mut stream).await?;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&vec![b'x'; bytes]).await
            }
        }
    }
}
