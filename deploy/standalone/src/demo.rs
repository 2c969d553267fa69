//! A small page with a live WebSocket, so that there is something to open.
//!
//! Invariant: the page uses relative addresses only, as every app behind a proxy should.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use warp::Filter;
use warp::ws::{Message, WebSocket};

const PAGE: &str = include_str!("demo.html");

/// The longest message that is echoed.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Serves the page until `stop` ends.
pub async fn run(bind: SocketAddr, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(bind).await?;
    println!("appproxy demo: listening on http://{}", listener.local_addr()?);
    let page = warp::path::end().and(warp::get()).map(|| warp::reply::html(PAGE));
    let socket = warp::path("ws")
        .and(warp::path::end())
        .and(warp::ws())
        .map(|upgrade: warp::ws::Ws| upgrade.max_message_size(MAX_MESSAGE_BYTES).on_upgrade(talk));
    let server = warp::serve(page.or(socket)).incoming(listener);
    tokio::select! {
        () = server.run() => {}
        () = stop => {}
    }
    Ok(())
}

/// Counts seconds and echoes what it is told.
async fn talk(socket: WebSocket) {
    let (mut sender, mut receiver) = socket.split();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut count = 0u64;
    loop {
        let message = tokio::select! {
            _ = seconds.tick() => {
                count += 1;
                Message::text(format!("tick {count}"))
            }
            received = receiver.next() => match received {
                Some(Ok(message)) if message.is_text() || message.is_binary() => message,
                Some(Ok(message)) if message.is_close() => return,
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        if sender.send(message).await.is_err() {
            return;
        }
    }
}
