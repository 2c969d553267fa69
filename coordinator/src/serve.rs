//! The API's socket: takes connections, and ends them in order.
//!
//! Invariant: nobody holds more connections than [`ApiLimits`] grants, and each of them ends: a head, an answer that is
//! not taken and idleness have their time, a request has it in [`Front`].

mod pace;
mod places;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::Front;
use crate::config::api::{ApiLimits, MAX_HEAD_BYTES, MAX_HEAD_FIELDS};
use crate::refusals::Refusal;
use entities::range::AddressRange;
use pace::{Pace, Paced};
use places::{NoPlace, Place, Places};

/// How long requests that are under way may go on after the shutdown signal.
const SHUTDOWN_DRAIN: Duration = Duration::from_secs(5);

/// How long accepting pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` becomes true, then lets requests in flight finish.
pub(crate) async fn serve(listener: TcpListener, front: Arc<Front>, mut shutdown: watch::Receiver<bool>) {
    let limits = front.config().limits;
    let places = Places::new(limits.max_connections, limits.max_connections_per_client);
    let graceful = GracefulShutdown::new();
    // Ends its tasks when it is dropped, so that what does not end in time is cut.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // A signal that nobody can give any more counts as given.
            _ = shutdown.wait_for(|is_down| *is_down) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match take_place(&places, &front, peer) {
                Ok(place) => _ = connections.spawn(run(stream, peer, place, Arc::clone(&front), graceful.watcher())),
                Err(refusal) => front.refusals().note(refusal, peer.ip(), None, "no place for a connection"),
            },
            Err(error) => {
                tracing::warn!(%error, "the API cannot take a connection");
                // Clients that went away meanwhile are no reason to pause.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(SHUTDOWN_DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some API requests did not end in time");
    }
}

/// A trusted proxy brings many clients.
fn take_place(places: &Arc<Places>, front: &Front, peer: SocketAddr) -> Result<Place, Refusal> {
    let is_proxy = AddressRange::any_contains(&front.config().trusted_proxies, peer.ip());
    places.take(peer.ip(), is_proxy).map_err(|error| match error {
        NoPlace::All => Refusal::Connections,
        NoPlace::Client => Refusal::ClientConnections,
    })
}

async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    front: Arc<Front>,
    graceful: hyper_util::server::graceful::Watcher,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection sends small packets late");
    }
    let limits = front.config().limits;
    let pace = Arc::new(Pace::default());
    let slow = {
        let front = Arc::clone(&front);
        move |refusal| front.refusals().note(refusal, peer.ip(), None, "too slow")
    };
    let stream = Paced::new(stream, Arc::clone(&pace), limits.head_timeout, limits.write_timeout, slow);
    let service = service_fn(|request| {
        let (front, pace) = (Arc::clone(&front), Arc::clone(&pace));
        async move {
            let _answering = pace.begin_answer();
            Ok::<_, Infallible>(front.answer(request, peer.ip()).await)
        }
    });
    let connection = http1_builder(&limits).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = graceful.watch(connection).await {
        let refusal = match () {
            () if error.is_parse_too_large() => Some(Refusal::HeadTooLarge),
            () if error.is_parse() => Some(Refusal::Malformed),
            () => None,
        };
        match refusal {
            Some(refusal) => front.refusals().note(refusal, peer.ip(), None, &error),
            None => tracing::debug!(%error, %peer, "a connection to the API ended early"),
        }
    }
    drop(place);
}

fn http1_builder(limits: &ApiLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Counts from the end of the last answer on, so it is what a connection may be idle.
        .header_read_timeout(limits.idle_timeout)
        .max_headers(MAX_HEAD_FIELDS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(true);
    builder
}
