//! Byte streams: the client's address is all that they show.

use entities::circuit::{Backend, Circuit, Protocol};
use testkit::ports::free_port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{TestEdge, at, by_port};
use crate::peer::Peer;

async fn connect_from(ip: &str, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{ip}:0").parse().expect("valid")).expect("a loopback address");
    socket.connect(at(port)).await.expect("the port listens")
}

#[tokio::test]
async fn only_clients_of_the_allowed_ranges_are_relayed() {
    let (edge, peer, port) = (TestEdge::start().await, Peer::start().await, free_port());
    let mut circuit =
        Circuit { protocol: Protocol::Tcp, backend: Backend::Tcp, ..by_port("ssh", port, vec![peer.target()]) };
    circuit.access.public = false;
    circuit.access.allowed_clients = vec!["127.0.0.2/31".parse().expect("valid")];
    edge.serve(&circuit).await;
    let mut stranger = connect_from("127.0.0.4", port).await;
    assert!(stranger.read(&mut [0; 1]).await.is_err(), "a reset");
    let mut friend = connect_from("127.0.0.3", port).await;
    friend.write_all(b"hello").await.expect("connected");
    let mut target = peer.accept().await;
    assert_eq!(target.exactly(5).await, b"hello");
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"client_address\"}").await, 1.0);
    // Nobody is named: nobody comes in, and who is in stays.
    circuit.access.allowed_clients.clear();
    edge.serve(&circuit).await;
    let mut stranger = connect_from("127.0.0.3", port).await;
    assert!(stranger.read(&mut [0; 1]).await.is_err(), "a reset");
    friend.write_all(b"still here").await.expect("connected");
    assert_eq!(target.exactly(10).await, b"still here");
}
