//! A server that speaks gRPC and says what no etcd would say.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Path of a read.
pub const RANGE: &str = "/etcdserverpb.KV/Range";
/// Path of a watch.
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";

type Answers = Arc<[(&'static str, &'static [&'static [u8]])]>;

/// A running fake; it ends when it is dropped.
#[derive(Debug)]
pub struct FakeEtcd {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl FakeEtcd {
    /// Answers each path by its messages, in protobuf. A watch stays open after them.
    pub async fn start(answers: &[(&'static str, &'static [&'static [u8]])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answers: Answers = answers.into();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, Arc::clone(&answers)));
            }
        });
        Self { address, _accepting: accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(socket: TcpStream, answers: Answers) {
    let mut connection = h2::server::handshake(socket).await.expect("the client speaks HTTP/2");
    let mut open = Vec::new();
    while let Some(Ok((request, response))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        let (_, messages) = answers.iter().find(|(known, _)| *known == path).expect("a path with an answer");
        open.extend(answer(response, messages, path == WATCH));
        // The request's body is dropped without being read: nobody sends more than fits into the window.
    }
}

/// Says `messages`; gives the stream back if it is to stay open.
fn answer(mut response: SendResponse<Bytes>, messages: &[&[u8]], stays_open: bool) -> Option<h2::SendStream<Bytes>> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("valid");
    let mut stream = response.send_response(head, false).ok()?;
    for message in messages {
        // Not compressed; the length; the message.
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        let frame = [&[0], length.as_slice(), message].concat();
        stream.send_data(frame.into(), false).ok()?;
    }
    if stays_open {
        return Some(stream);
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("valid"), HeaderValue::from_static("0"))]);
    stream.send_trailers(trailers).ok()?;
    None
}
