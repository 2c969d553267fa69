//! Peers that send and check much, and hold nothing of it.

use std::net::SocketAddr;
use std::sync::LazyLock;

use testkit::wait::within_for;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::LIMIT;

/// No buffer has this length, so that one which is lost or doubled moves all that follows.
const BLOCK: usize = 65_521;

/// What is sent, again and again: two blocks, so that each piece of a block's length is one slice.
static BLOCKS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut block = vec![0; BLOCK];
    openssl::rand::rand_bytes(&mut block).unwrap();
    block.repeat(2)
});

/// Both directions of a connection.
pub(crate) struct Bulk {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

// === impl Bulk ===

impl Bulk {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::with_capacity(BLOCK, reader), writer }
    }

    /// Sends a head.
    pub(crate) async fn say(&mut self, lines: &[&str]) {
        let head = lines.join("\r\n") + "\r\n\r\n";
        self.writer.write_all(head.as_bytes()).await.unwrap();
    }

    /// Reads a head, in lower case; `None` if the connection ends instead.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if within_for("a line of a head", LIMIT, self.reader.read_line(&mut head)).await.unwrap() == 0 {
                return None;
            }
        }
        Some(head.to_lowercase())
    }

    /// Sends so many bytes.
    pub(crate) async fn send(&mut self, count: usize) {
        send(&mut self.writer, count).await;
    }

    /// Receives so many, which must be those that were sent.
    pub(crate) async fn receive(&mut self, count: usize) {
        receive(&mut self.reader, count).await;
    }

    /// Sends and receives so many at the same time, and nothing more.
    pub(crate) async fn exchange(self, count: usize) {
        let Self { mut reader, mut writer } = self;
        let sending = async {
            send(&mut writer, count).await;
            writer.shutdown().await.unwrap();
        };
        tokio::join!(sending, receive(&mut reader, count));
        let end = within_for("the end of the stream", LIMIT, reader.read(&mut [0])).await;
        assert_eq!(end.unwrap(), 0, "the stream goes on");
    }
}

async fn send(writer: &mut OwnedWriteHalf, count: usize) {
    for start in (0..count).step_by(BLOCK) {
        let piece = &BLOCKS[..BLOCK.min(count - start)];
        within_for("a write", LIMIT, writer.write_all(piece)).await.unwrap();
    }
}

async fn receive(reader: &mut (impl AsyncRead + Unpin), count: usize) {
    let mut buffer = vec![0; BLOCK];
    let mut received = 0;
    while received < count {
        let wanted = BLOCK.min(count - received);
        let read = within_for("a read", LIMIT, reader.read(&mut buffer[..wanted])).await.unwrap();
        assert_ne!(read, 0, "the stream ended after {received} bytes");
        let start = received % BLOCK;
        assert!(buffer[..read] == BLOCKS[start..start + read], "a byte after {received} is another one");
        received += read;
    }
}

/// A target: of bytes, or of requests, content and tunnels.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    serving: JoinSet<()>,
}

// === impl Target ===

impl Target {
    /// Exchanges `count` bytes with one connection.
    pub(crate) async fn of_bytes(count: usize) -> Self {
        Self::start(async move |bulk| bulk.exchange(count).await).await
    }

    /// Takes the content of each `POST`, answers each `GET` with `count` bytes, and exchanges as many after an upgrade.
    pub(crate) async fn of_requests(count: usize) -> Self {
        Self::start(async move |bulk| answer(bulk, count).await).await
    }

    async fn start<F: Future<Output = ()> + Send>(serve: impl FnOnce(Bulk) -> F + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(Bulk::new(stream)).await;
        });
        Self { address, serving }
    }

    /// Waits until it has done its part without a fault.
    pub(crate) async fn finish(mut self) {
        let done = within_for("the end of the target", LIMIT, self.serving.join_next()).await;
        done.unwrap().unwrap();
    }
}

/// Answers requests until the connection ends.
async fn answer(mut bulk: Bulk, count: usize) {
    while let Some(head) = bulk.head().await {
        if head.contains("\r\nupgrade: bytes\r\n") {
            bulk.say(&["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: bytes"]).await;
            return bulk.exchange(count).await;
        }
        if head.starts_with("post") {
            bulk.receive(content_length(&head)).await;
            bulk.say(&["HTTP/1.1 200 OK", "Content-Length: 0"]).await;
        } else {
            bulk.say(&["HTTP/1.1 200 OK", &format!("Content-Length: {count}")]).await;
            bulk.send(count).await;
        }
    }
}

/// The length that a head gives.
pub(crate) fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    value.unwrap_or_else(|| panic!("no length in {head}")).parse().unwrap()
}
