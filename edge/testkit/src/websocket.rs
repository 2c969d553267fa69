//! WebSockets, both ends.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::wait::within;

/// The client's end of a WebSocket.
#[derive(Debug)]
pub struct WebSocket(WebSocketStream<TcpStream>);

impl WebSocket {
    /// Opens one at `address`, asking for `host` and `path`.
    ///
    /// # Errors
    /// What the other side answered instead.
    pub async fn open(address: SocketAddr, host: &str, path: &str) -> Result<Self, Error> {
        Self::open_request(address, format!("ws://{host}{path}").into_client_request()?).await
    }

    /// The same with a cookie.
    ///
    /// # Errors
    /// What the other side answered instead.
    pub async fn open_with_cookie(address: SocketAddr, host: &str, path: &str, cookie: &str) -> Result<Self, Error> {
        let mut request = format!("ws://{host}{path}").into_client_request()?;
        request.headers_mut().insert("cookie", cookie.parse().expect("a field value"));
        Self::open_request(address, request).await
    }

    /// The same with a bearer token.
    ///
    /// # Errors
    /// What the other side answered instead.
    pub async fn open_with_token(address: SocketAddr, host: &str, path: &str, token: &str) -> Result<Self, Error> {
        let mut request = format!("ws://{host}{path}").into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("a field value"));
        Self::open_request(address, request).await
    }

    async fn open_request(address: SocketAddr, request: Request) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(Self(socket))
    }

    /// Sends `text` and gives back what comes next; `None` if the connection ends instead.
    pub async fn echo(&mut self, text: &str) -> Option<String> {
        self.0.send(Message::text(text)).await.ok()?;
        match within("an echo", self.0.next()).await {
            Some(Ok(message)) => message.into_text().ok().map(|text| text.to_string()),
            _ => None,
        }
    }

    /// Waits until the other side ends the connection.
    pub async fn wait_for_end(&mut self) {
        while let Some(Ok(_)) = within("the end of the WebSocket", self.0.next()).await {}
    }
}

/// Answers the handshake and sends every message back.
pub(crate) async fn echo(mut stream: TcpStream, key: String, read_ahead: Vec<u8>) {
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut socket = WebSocketStream::from_partially_read(stream, read_ahead, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let is_data = message.is_text() || message.is_binary();
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}
