//! HTTP/2 without TLS: an application to be proxied, and a client.
//!
//! | path of the origin | answer |
//! |---|---|
//! | `/echo` | the content as it comes, then its length in the trailer `x-length` |
//! | `/hold` | `held`, but only after [`Http2Origin::release`] |
//! | `/reset` | `part`, and once something of the request's content has come a reset with `INADEQUATE_SECURITY` |
//! | anything else | its name |

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use entities::target::Target;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::wait::within;

/// A running origin; it ends when it is dropped.
#[derive(Debug)]
pub struct Http2Origin {
    address: SocketAddr,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    name: String,
    connections: AtomicUsize,
    requests: Mutex<Vec<request::Parts>>,
    resets: Mutex<Vec<Reason>>,
    held: Semaphore,
}

/// A connection of a client.
#[derive(Debug)]
pub struct Http2Client {
    sender: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Http2Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its content.
    pub body: Bytes,
    /// What follows the content.
    pub trailers: Option<HeaderMap>,
    /// Whether there was nothing but a head.
    pub is_head_only: bool,
}

// === impl Http2Origin ===

impl Http2Origin {
    /// An origin that calls itself `name`.
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            name: name.to_owned(),
            connections: AtomicUsize::new(0),
            requests: Mutex::default(),
            resets: Mutex::default(),
            held: Semaphore::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _accepting: accepting }
    }

    /// The origin as a circuit says it.
    pub fn target(&self) -> Target {
        crate::origin::target("127.0.0.1", self.address.port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has had.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The heads that it has received so far.
    pub fn requests(&self) -> Vec<request::Parts> {
        self.state.requests.lock().expect("no test thread panics with it").clone()
    }

    /// The streams that were reset before their end, or lost with their connection (`CONNECT_ERROR`).
    pub fn resets(&self) -> Vec<Reason> {
        self.state.resets.lock().expect("no test thread panics with it").clone()
    }

    /// Lets so many requests to `/hold` go on.
    pub fn release(&self, count: usize) {
        self.state.held.add_permits(count);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let Ok(mut connection) = h2::server::handshake(socket).await else { return };
            let mut streams = JoinSet::new();
            while let Some(Ok((request, answer))) = connection.accept().await {
                while streams.try_join_next().is_some() {}
                streams.spawn(serve(request, answer, Arc::clone(&state)));
            }
            drop(connection);
            while streams.join_next().await.is_some() {}
        });
    }
}

async fn serve(request: Request<RecvStream>, mut answer: SendResponse<Bytes>, state: Arc<State>) {
    let (head, content) = request.into_parts();
    let path = head.uri.path().to_owned();
    let is_head = head.method == Method::HEAD;
    state.requests.lock().expect("no test thread panics with it").push(head);
    let served = match path.as_str() {
        "/echo" => echo(content, answer).await,
        "/hold" => hold(answer, &state).await,
        "/reset" => reset(content, answer).await,
        _ if is_head => answer.send_response(Response::new(()), true).map(drop),
        _ => say(answer, &state.name),
    };
    if let Err(error) = served {
        let reason = error.reason().unwrap_or(Reason::CONNECT_ERROR);
        state.resets.lock().expect("no test thread panics with it").push(reason);
    }
}

fn say(mut answer: SendResponse<Bytes>, text: &str) -> Result<(), h2::Error> {
    answer.send_response(Response::new(()), false)?.send_data(Bytes::copy_from_slice(text.as_bytes()), true)
}

async fn echo(mut content: RecvStream, mut answer: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut writer = answer.send_response(Response::new(()), false)?;
    let mut length = 0;
    while let Some(data) = content.data().await {
        let data = data?;
        length += data.len();
        content.flow_control().release_capacity(data.len())?;
        writer.send_data(data, false)?;
    }
    writer.send_trailers(HeaderMap::from_iter([(HeaderName::from_static("x-length"), HeaderValue::from(length))]))
}

async fn hold(mut answer: SendResponse<Bytes>, state: &State) -> Result<(), h2::Error> {
    tokio::select! {
        reason = std::future::poll_fn(|context| answer.poll_reset(context)) => return Err(reason?.into()),
        permit = state.held.acquire() => permit.expect("never closed").forget(),
    }
    say(answer, "held")
}

async fn reset(mut content: RecvStream, mut answer: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut writer = answer.send_response(Response::new(()), false)?;
    writer.send_data(Bytes::from_static(b"part"), false)?;
    if content.data().await.is_some() {
        writer.send_reset(Reason::INADEQUATE_SECURITY);
    }
    Ok(())
}

// === impl Http2Client ===

impl Http2Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connects")).await
    }

    /// Begins to speak on a connection that stands.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = h2::client::handshake(stream).await.expect("sends the preface");
        Self { sender, ended: tokio::spawn(connection) }
    }

    /// Begins a request; without content if `is_whole`.
    ///
    /// # Errors
    /// If the connection takes none.
    pub async fn begin(
        &mut self,
        request: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut sender = within("room for a stream", self.sender.clone().ready()).await?;
        sender.send_request(request, is_whole)
    }

    /// Sends a request without content and reads the answer.
    ///
    /// # Errors
    /// If the stream or the connection ends before the answer does.
    pub async fn ask(&mut self, request: Request<()>) -> Result<Http2Answer, h2::Error> {
        let (answer, _) = self.begin(request, true).await?;
        Self::read(answer).await
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// If the stream or the connection ends before the answer does.
    pub async fn read(answer: ResponseFuture) -> Result<Http2Answer, h2::Error> {
        let (head, mut content) = within("the head of an answer", answer).await?.into_parts();
        let is_head_only = content.is_end_stream();
        let mut body = Vec::new();
        while let Some(data) = within("more of an answer", content.data()).await {
            let data = data?;
            content.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        let trailers = within("the end of an answer", content.trailers()).await?;
        Ok(Http2Answer { status: head.status, headers: head.headers, body: body.into(), trailers, is_head_only })
    }

    /// How many streams the other side lets it open at a time.
    pub fn max_streams(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Waits until the connection has ended, and says how.
    pub async fn wait_for_end(self) -> Result<(), h2::Error> {
        let Self { sender, ended } = self;
        let result = within("the end of the connection", ended).await.expect("no panic");
        drop(sender);
        result
    }
}

/// `GET` of this path.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://app.test{path}")).body(()).expect("valid")
}
