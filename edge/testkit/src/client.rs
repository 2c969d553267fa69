//! HTTP clients for which every name is one address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

struct Everywhere(IpAddr);

impl Resolve for Everywhere {
    fn resolve(&self, _name: Name) -> Resolving {
        let addresses: Addrs = Box::new(std::iter::once(SocketAddr::new(self.0, 0)));
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// A client for which every host name is the loopback address; the port stands in the URL.
///
/// It follows no redirect and has no idle connections, so that each request is a connection of its own.
pub fn client() -> reqwest::Client {
    builder().pool_max_idle_per_host(0).build().expect("a client")
}

/// The same, but connections are kept for the next request.
pub fn keep_alive_client() -> reqwest::Client {
    builder().build().expect("a client")
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .dns_resolver(Arc::new(Everywhere(IpAddr::from([127, 0, 0, 1]))))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}
