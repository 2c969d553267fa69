//! A target of bytes: it sends everything back, and ends when its peer does.

use std::net::SocketAddr;

use entities::target::Target;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::target::target;

/// A running target; it and its connections end when it is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Echo {
    /// Listens on a free port of the loopback address.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(echo(stream, Vec::new()));
            }
        });
        Self { address, _accepting: accepting }
    }

    /// The target as a circuit says it.
    pub fn target(&self) -> Target {
        target("127.0.0.1", self.address.port())
    }
}

/// Sends back what was read already, and everything that comes.
pub(crate) async fn echo(mut stream: TcpStream, read_ahead: Vec<u8>) {
    let (mut from, mut to) = stream.split();
    if to.write_all(&read_ahead).await.is_err() || tokio::io::copy(&mut from, &mut to).await.is_err() {
        return;
    }
    // The peer has gone already, or sees the end.
    let _ = to.shutdown().await;
}
