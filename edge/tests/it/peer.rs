//! A target, and a client, that do exactly what their test says, byte by byte.

use std::net::{IpAddr, SocketAddr};

use entities::target::Target;
use testkit::origin::target;
use testkit::raw::connect_from;
use testkit::wait::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A target that waits for its test to accept.
pub(crate) struct Peer(TcpListener);

/// One connection of the edge to it, or one to the edge.
pub(crate) struct PeerConnection {
    pub(crate) stream: TcpStream,
    /// What was read behind a head.
    pub(crate) read_ahead: Vec<u8>,
}

// === impl Peer ===

impl Peer {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    pub(crate) fn target(&self) -> Target {
        target("127.0.0.1", self.0.local_addr().expect("bound").port())
    }

    pub(crate) async fn accept(&self) -> PeerConnection {
        let (stream, _) = within("a connection of the edge", self.0.accept()).await.expect("accepts");
        PeerConnection { stream, read_ahead: Vec::new() }
    }
}

// === impl PeerConnection ===

impl PeerConnection {
    /// A client of whoever listens at `address`.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("somebody listens"), read_ahead: Vec::new() }
    }

    /// The same from this address of the machine.
    pub(crate) async fn connect_from(ip: IpAddr, address: SocketAddr) -> Self {
        Self { stream: connect_from(ip, address).await, read_ahead: Vec::new() }
    }

    /// Lets the other side see an error when this is dropped, not an orderly end.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("an option");
    }

    /// Reads a head, its empty line included.
    pub(crate) async fn head(&mut self) -> String {
        let mut bytes = std::mem::take(&mut self.read_ahead);
        loop {
            if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                self.read_ahead = bytes.split_off(end + 4);
                return String::from_utf8(bytes).expect("text");
            }
            assert!(self.more(&mut bytes).await > 0, "the edge ended the connection within a head");
        }
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.read_ahead);
        while bytes.len() < count {
            assert!(self.more(&mut bytes).await > 0, "the connection ended after {} bytes", bytes.len());
        }
        self.read_ahead = bytes.split_off(count);
        bytes
    }

    /// Reads until the other side ends its direction.
    pub(crate) async fn until_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.read_ahead);
        while self.more(&mut bytes).await > 0 {}
        bytes
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("room to write", self.stream.write_all(bytes.as_ref())).await.expect("sends");
    }

    async fn more(&mut self, bytes: &mut Vec<u8>) -> usize {
        within("bytes, or the end", self.stream.read_buf(bytes)).await.unwrap_or(0)
    }
}

/// The value of a field in a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
