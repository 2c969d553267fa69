//! What the edge does not let in.

mod caps;
mod corpus;
mod floods;
mod http2_floods;
mod slow;

use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

/// Another client than the one that asks for metrics.
const OTHER: &str = "127.0.0.2:0";

/// Connects to `address` from the address `from`.
async fn connect_from(from: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(from.parse().expect("an address")).expect("an address of this machine");
    socket.connect(address).await.expect("somebody listens")
}
