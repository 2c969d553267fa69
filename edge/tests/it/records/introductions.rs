//! Connections that a proxy introduces, or should, and those that are not secured.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use edge::{Secure, SecuredStream, Security};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{asked, bytes_circuit, case, provoke, request, start_with, turned_away};
use crate::harness::at;
use crate::peer::PeerConnection;

/// A proxy that introduces its connections, and one that is trusted.
const PROXIES: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::new(127, 78, 0, 1)), IpAddr::V4(std::net::Ipv4Addr::new(127, 78, 0, 2))];

#[tokio::test]
async fn a_connection_that_is_not_introduced_has_one_record() {
    let edge = start_with(|config| {
        // The clients of all cases, and the proxy that speaks for one.
        config.proxy_protocol_from = ["127.77.0.0/16", "127.78.0.1"].map(|range| range.parse().expect("valid")).into();
        config.trusted_proxies = vec![PROXIES[1].into()];
        config.client.head = Duration::from_millis(300);
    })
    .await;
    let (circuit, port) = bytes_circuit("stream", vec![]);
    edge.serve(&circuit).await;
    let provoked = provoke(vec![
        case("no header", &["none - - - - refused client 0/0 0"], async |from| {
            let mut client = PeerConnection::connect_from(from, edge.address).await;
            client.send(request("GET", "lab", "/", "")).await;
            client.until_end().await;
        }),
        case("never a byte", &[], async |from| drop(PeerConnection::connect_from(from, edge.address).await)),
        case("gone inside its header", &["none - - - - refused client 0/0 0"], async |from| {
            let mut client = PeerConnection::connect_from(from, edge.address).await;
            client.send("PROXY TCP4 192.0.2").await;
        }),
        case("a header that does not end", &["none - - - - refused client 0/0 0"], async |from| {
            let mut client = PeerConnection::connect_from(from, edge.address).await;
            client.send("PROXY TCP4 192.0.2").await;
            client.until_end().await;
        }),
        case("a malformed header on a port of bytes", &["bytes - - - - refused client 0/0 0"], async |from| {
            let mut client = PeerConnection::connect_from(from, at(port)).await;
            client.send("PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n").await;
            client.until_end().await;
        }),
        case("whom the header names", &["http1 GET / 404 - refused client 0/* 0"], async |from| {
            let mut client = PeerConnection::connect_from(PROXIES[0], edge.address).await;
            client.send(format!("PROXY TCP4 {from} 192.0.2.1 1 2\r\n")).await;
            client.send(request("GET", "nobody", "/", "")).await;
            client.head().await;
            client
        }),
        case("whom a trusted proxy names", &["http1 GET / 404 - refused client 0/* 0"], async |from| {
            let fields = format!("X-Forwarded-For: {from}\r\n");
            asked(PROXIES[1], &edge, &request("GET", "nobody", "/", &fields)).await
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_connection_that_is_not_secured_has_one_record() {
    let edge = start_with(|config| config.secure = Some(Arc::new(OnlyTheTest))).await;
    let (circuit, port) = bytes_circuit("stream", vec![]);
    edge.serve(&circuit).await;
    let provoked = provoke(vec![
        case("at the traffic port", &["none - - - - refused client 0/0 0"], async |from| {
            turned_away(from, edge.address.port()).await
        }),
        case("at a port of bytes", &["bytes - - - - refused client 0/0 0"], async |from| turned_away(from, port).await),
    ]);
    provoked.await.prove(edge).await;
}

/// Secures the connections of the harness, by nothing, and no others.
#[derive(Debug)]
struct OnlyTheTest;

#[async_trait]
impl Secure for OnlyTheTest {
    async fn secure(&self, socket: TcpStream) -> io::Result<Box<dyn SecuredStream>> {
        if socket.peer_addr()?.ip() != at(0).ip() {
            return Err(io::Error::other("no certificate"));
        }
        Ok(Box::new(Bare(socket)))
    }
}

/// A socket that says that it is secured.
#[derive(Debug)]
struct Bare(TcpStream);

impl SecuredStream for Bare {
    fn socket(&self) -> &TcpStream {
        &self.0
    }

    fn security(&self) -> Security {
        Security { version: "none".to_owned(), cipher: "none".to_owned() }
    }
}

impl AsyncRead for Bare {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Bare {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
