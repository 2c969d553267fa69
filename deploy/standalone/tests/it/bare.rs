//! Pingora as it comes, with HTTP/2 without TLS: what the edge is compared to.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::Result;
use pingora::apps::HttpServerOptions;
use pingora::server::Fds;
use pingora::server::configuration::ServerConf;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running proxy; [`Bare::stop`] ends it.
pub(crate) struct Bare {
    pub(crate) port: u16,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Forward {
    target: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _context: &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.target, false, String::new());
        peer.options.set_http_version(2, 2);
        Ok(Box::new(peer))
    }
}

// === impl Bare ===

impl Bare {
    /// Sends every request to `target`.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy = http_proxy(&Arc::new(ServerConf::default()), Forward { target });
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        proxy.server_options = Some(options);
        let mut sockets = Fds::new();
        sockets.add(address.to_string(), listener.into_raw_fd());
        let mut service = Service::new("bare".to_owned(), proxy);
        service.add_tcp(&address.to_string());
        let (stop, stopped) = watch::channel(false);
        let sockets = Arc::new(sockets.into());
        let task = tokio::spawn(async move { service.start_service(Some(sockets), stopped, 1).await });
        Self { port: address.port(), stop, task }
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        testkit::wait::within("the end of the bare proxy", self.task).await.unwrap();
    }
}
