//! A client that sends any bytes and sees when the connection ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::find;

/// How long a peer may take before a test counts as hanging.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection from this address of the machine; every address in 127.0.0.0/8 is one.
pub async fn connect_from(ip: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.expect("a socket");
    socket.bind(SocketAddr::new(ip, 0)).expect("an address of this machine");
    socket.connect(address).await.expect("connects")
}

/// How many bytes have come at the end `local` of a connection of this machine that its program has not read, as the
/// system says it; `None` if there is no such connection. IPv4 only.
pub fn unread_bytes(local: SocketAddr, remote: SocketAddr) -> Option<usize> {
    let hex = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()),
        IpAddr::V6(_) => panic!("an address of IPv4"),
    };
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let (local, remote) = (hex(local), hex(remote));
    let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1) == Some(&local.as_str()) && row.get(2) == Some(&remote.as_str()))?;
    usize::from_str_radix(row.get(4)?.split_once(':')?.1, 16).ok()
}

/// A connection: a plain socket, or a stream of the test's own.
#[derive(Debug)]
pub struct RawClient<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// The number of the status line.
    pub status: u16,
    /// The head as text.
    pub head: String,
    /// The content, if it has a length.
    pub body: String,
}

impl RawClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("connects"), buffer: Vec::new() }
    }

    /// Connects from this address of the machine.
    pub async fn connect_from(ip: IpAddr, address: SocketAddr) -> Self {
        Self { stream: connect_from(ip, address).await, buffer: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    /// Speaks on a stream that stands.
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("sends");
    }

    /// Sends bytes to a peer that may have ended the connection.
    ///
    /// # Errors
    /// If it has.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sending = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(PATIENCE, sending).await.expect("the peer reads in time")
    }

    /// Sends a request without content and reads the answer.
    pub async fn get(&mut self, path: &str, host: &str) -> RawAnswer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        self.answer().await
    }

    /// Reads one answer, content of a given length included.
    pub async fn answer(&mut self) -> RawAnswer {
        self.try_answer().await.expect("an answer before the end of the connection")
    }

    /// Reads the head of an answer that has no content, whatever its length says.
    pub async fn head(&mut self) -> RawAnswer {
        self.try_head().await.expect("an answer before the end of the connection")
    }

    /// Reads one answer; `None` if the connection ends before.
    pub async fn try_answer(&mut self) -> Option<RawAnswer> {
        let mut answer = self.try_head().await?;
        let length = answer.field("content-length").map_or(0, |value| value.parse().expect("a number"));
        while self.buffer.len() < length {
            self.read_more().await?;
        }
        answer.body = String::from_utf8_lossy(&self.buffer.drain(..length).collect::<Vec<u8>>()).into_owned();
        Some(answer)
    }

    async fn try_head(&mut self) -> Option<RawAnswer> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.read_more().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        Some(RawAnswer { status, head, body: String::new() })
    }

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// If the connection ends before: `UnexpectedEof` if it ends in order.
    pub async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Waits until the other side ends the connection; what it sends until then is thrown away.
    pub async fn wait_for_end(&mut self) {
        while self.read_more().await.is_some() {}
    }

    async fn read_more(&mut self) -> Option<()> {
        self.read().await.ok().filter(|count| *count > 0).map(drop)
    }

    async fn read(&mut self) -> io::Result<usize> {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer));
        read.await.expect("the peer answers or closes in time")
    }
}

impl RawAnswer {
    /// The value of a field, if it is there.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}
