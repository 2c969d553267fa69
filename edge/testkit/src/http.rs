//! The smallest HTTP/1.1 server that origins need: it keeps fields as they came and lets a test answer any bytes.
//!
//! Invariant: a server and all of its connections end when its handle is dropped.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method of the request line.
    pub method: String,
    /// Target of the request line.
    pub path: String,
    /// Fields in order, with the case they came in.
    pub headers: Vec<(String, String)>,
    /// Content, freed of chunks.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a field, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of a field.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        let is_it = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.headers.iter().filter(is_it).map(|(_, value)| value.as_str()).collect()
    }
}

/// What a handler wants done.
pub(crate) enum Answer {
    /// Write these bytes and wait for the next request.
    Bytes(Vec<u8>),
    /// Write these bytes and close.
    Last(Vec<u8>),
    /// Switch to WebSocket and send every message back.
    WebSocketEcho,
    /// Switch to whatever is asked for, and send every byte back.
    Echo,
}

pub(crate) trait Handler: Send + Sync + 'static {
    /// These bytes have come, whatever they mean.
    fn note(&self, _bytes: &[u8]) {}

    fn handle(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Server {
    /// Listens on a free port of the loopback address.
    pub(crate) async fn start<H: Handler>(handler: Arc<H>) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), handler).await
    }

    /// Listens at `address`.
    pub(crate) async fn start_at<H: Handler>(address: SocketAddr, handler: Arc<H>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(stream, Arc::clone(&handler)));
            }
        });
        Self { address, _accepting: accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An answer with a length.
pub(crate) fn answer(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

async fn serve<H: Handler>(mut stream: TcpStream, handler: Arc<H>) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, handler.as_ref()).await {
        let key = request.header("sec-websocket-key").map(str::to_owned);
        let protocol = request.header("upgrade").map(str::to_owned);
        match handler.handle(request).await {
            Answer::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Answer::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Answer::WebSocketEcho => {
                crate::websocket::echo(stream, key.unwrap_or_default(), buffer).await;
                return;
            }
            Answer::Echo => {
                let protocol = protocol.unwrap_or_default();
                let head =
                    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
                if stream.write_all(head.as_bytes()).await.is_ok() {
                    crate::echo::echo(stream, buffer).await;
                }
                return;
            }
        }
    }
}

/// The next request, or `None` at the end of the stream. What was read beyond it stays in `buffer`.
async fn read_request<H: Handler>(stream: &mut TcpStream, buffer: &mut Vec<u8>, handler: &H) -> Option<Request> {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        read_more(stream, buffer, handler).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut start = lines.next()?.split(' ');
    let (method, path) = (start.next()?.to_owned(), start.next()?.to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|value| value.parse::<usize>().ok());
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line_end = loop {
                if let Some(end) = find(buffer, b"\r\n") {
                    break end;
                }
                read_more(stream, buffer, handler).await?;
            };
            let size = usize::from_str_radix(std::str::from_utf8(&buffer[..line_end]).ok()?.trim(), 16).ok()?;
            let whole = line_end + 2 + size + 2;
            while buffer.len() < whole {
                read_more(stream, buffer, handler).await?;
            }
            request.body.extend_from_slice(&buffer[line_end + 2..line_end + 2 + size]);
            buffer.drain(..whole);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        while buffer.len() < length {
            read_more(stream, buffer, handler).await?;
        }
        request.body = buffer.drain(..length).collect();
    }
    Some(request)
}

async fn read_more<H: Handler>(stream: &mut TcpStream, buffer: &mut Vec<u8>, handler: &H) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            handler.note(&buffer[buffer.len() - read..]);
            Some(())
        }
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
