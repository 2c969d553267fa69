//! Where a target is, now: its name looked up, and whether the edge may go there.
//!
//! Invariant: no address leaves here that [`Egress`] does not permit, and while a resolver fails a name goes on to mean what
//! it meant last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use entities::ids::Port;
use entities::target::TargetHost;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::egress::{Egress, Forbidden};

/// How long the addresses of a name are used without asking again. Short, because containers move; not zero, because
/// every look-up takes a thread.
const RESOLUTION_TIME: Duration = Duration::from_secs(5);

/// Addresses of one name that are kept.
const MAX_ADDRESSES: usize = 16;

/// What a host means.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// An IP literal means itself.
    Literal(SocketAddr),
    /// A name, and what it meant when it was last looked up.
    Name(Mutex<Option<Resolved>>),
}

/// What a name meant.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    addresses: Arc<[SocketAddr]>,
    at: Instant,
}

/// Why there is no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// The look-up failed.
    #[error("the name does not resolve: {0}")]
    Failed(#[from] std::io::Error),
    /// The look-up took longer than connecting may.
    #[error("the name did not resolve within {0:?}")]
    TimedOut(Duration),
    /// The name has no address, or none that has not been tried.
    #[error("the name has no further address")]
    NoAddress,
    /// The edge does not go there.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

// === impl Resolution ===

impl Resolution {
    /// What `host` means; a name is looked up when somebody asks.
    pub(crate) fn of(host: &TargetHost, port: Port) -> Self {
        match host.ip() {
            Some(ip) => Self::Literal(SocketAddr::new(ip, port.number())),
            None => Self::Name(Mutex::default()),
        }
    }

    /// How many addresses it is known to have.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Literal(_) => 1,
            Self::Name(known) => known.lock().as_ref().map_or(0, |resolved| resolved.addresses.len()),
        }
    }

    /// The address with this number, counted from 0; the look-up may take as long as `limit`.
    pub(crate) async fn get(
        &self,
        host: &TargetHost,
        port: Port,
        number: usize,
        limit: Duration,
        egress: &Egress,
    ) -> Result<SocketAddr, AddressError> {
        let address = match self {
            Self::Literal(address) => *address,
            Self::Name(known) => {
                resolve(known, host, port, limit).await?.get(number).copied().ok_or(AddressError::NoAddress)?
            }
        };
        egress.check(address)?;
        Ok(address)
    }
}

async fn resolve(
    known: &Mutex<Option<Resolved>>,
    host: &TargetHost,
    port: Port,
    limit: Duration,
) -> Result<Arc<[SocketAddr]>, AddressError> {
    let last = known.lock().clone();
    if let Some(resolved) = last.as_ref().filter(|resolved| resolved.at.elapsed() < RESOLUTION_TIME) {
        return Ok(Arc::clone(&resolved.addresses));
    }
    let look_up = tokio::net::lookup_host((host.as_str(), port.number()));
    let found = match tokio::time::timeout(limit, look_up).await {
        Ok(Ok(found)) => Ok(found.take(MAX_ADDRESSES).collect::<Arc<[SocketAddr]>>()),
        Ok(Err(error)) => Err(AddressError::Failed(error)),
        Err(_) => Err(AddressError::TimedOut(limit)),
    };
    let addresses = keep(found, last, host)?;
    *known.lock() = Some(Resolved { addresses: Arc::clone(&addresses), at: Instant::now() });
    Ok(addresses)
}

/// What was found, or what was found before if that failed.
fn keep(
    found: Result<Arc<[SocketAddr]>, AddressError>,
    last: Option<Resolved>,
    host: &TargetHost,
) -> Result<Arc<[SocketAddr]>, AddressError> {
    match (found, last) {
        (Ok(addresses), _) => Ok(addresses),
        (Err(error), Some(last)) => {
            tracing::warn!(host = host.as_str(), %error, fault = "edge", "a name does not resolve any more; its last addresses are kept");
            Ok(last.addresses)
        }
        (Err(error), None) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(host: &str, number: usize, egress: &Egress) -> Result<SocketAddr, AddressError> {
        let (host, port): (TargetHost, Port) = (host.parse().expect("valid"), 80.try_into().expect("valid"));
        Resolution::of(&host, port).get(&host, port, number, Duration::from_secs(5), egress).await
    }

    #[tokio::test]
    async fn a_name_is_looked_up_when_its_turn_comes() {
        let (host, port): (TargetHost, Port) = ("localhost".parse().expect("valid"), 80.try_into().expect("valid"));
        let name = Resolution::of(&host, port);
        assert_eq!(name.count(), 0);
        let limit = Duration::from_secs(5);
        let egress = Egress { allows_loopback: true, ..Egress::default() };
        let address = name.get(&host, port, 0, limit, &egress).await.expect("localhost has an address");
        assert!(address.ip().is_loopback());
        let further = name.get(&host, port, name.count(), limit, &egress).await;
        assert!(matches!(further, Err(AddressError::NoAddress)));
    }

    #[tokio::test]
    async fn what_a_name_means_is_judged_and_not_the_name() {
        let egress = Egress { allows_loopback: false, ..Egress::default() };
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert!(matches!(get(host, 0, &egress).await, Err(AddressError::Forbidden(_))), "{host}");
        }
    }

    #[test]
    fn a_resolver_that_fails_takes_nothing_away() {
        let host: TargetHost = "node.test".parse().expect("valid");
        let addresses: Arc<[SocketAddr]> = Arc::new(["10.0.0.1:80".parse().expect("valid")]);
        let last = Resolved { addresses: Arc::clone(&addresses), at: Instant::now() };
        let failed = || Err(AddressError::NoAddress);
        assert_eq!(keep(failed(), Some(last.clone()), &host).expect("kept"), addresses);
        assert!(keep(failed(), None, &host).is_err());
        let other: Arc<[SocketAddr]> = Arc::new([]);
        assert_eq!(keep(Ok(Arc::clone(&other)), Some(last), &host).expect("found"), other);
    }
}
