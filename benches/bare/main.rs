//! `bare-proxy`: what pingora costs without us. Every request goes to one origin and nothing else is done.
//!
//! It runs as the edge does: on a tokio runtime with a thread for each processor, one `HttpProxy` behind a listening
//! service, jemalloc, and a pool of the same size.
//!
//! Invariant: no hook does anything that forwarding does not need.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on must end, not print a wrong figure"
)]

mod lean;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::available_parallelism;

use async_trait::async_trait;
use clap::Parser;
use pingora::Result;
use pingora::apps::HttpServerApp;
use pingora::server::configuration::ServerConf;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy};
use tokio::sync::watch;

use lean::Lean;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The edge's own.
const POOL_SIZE_PER_THREAD: usize = 2048;

/// A pingora proxy that does nothing but forward.
#[derive(Debug, Parser)]
#[command(name = "bare-proxy")]
struct Args {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Where every request goes.
    #[arg(long)]
    origin: SocketAddr,
    /// Without pingora's modules and without a future for every hook that does nothing.
    #[arg(long)]
    lean: bool,
}

/// A proxy as pingora's guide shows it.
struct Plain {
    origin: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Plain {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _context: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let settings = Arc::new(ServerConf {
        threads: available_parallelism().map_or(1, usize::from),
        upstream_keepalive_pool_size: POOL_SIZE_PER_THREAD,
        ..ServerConf::default()
    });
    if args.lean {
        serve(args.listen, http_proxy(&settings, Lean { origin: args.origin })).await;
    } else {
        serve(args.listen, http_proxy(&settings, Plain { origin: args.origin })).await;
    }
}

async fn serve<P: HttpServerApp + Send + Sync + 'static>(listen: SocketAddr, proxy: P) {
    let mut service = Service::new("bare".to_owned(), proxy);
    service.add_tcp(&listen.to_string());
    let (_never, stopped) = watch::channel(false);
    service.start_service(None, stopped, 1).await;
}
