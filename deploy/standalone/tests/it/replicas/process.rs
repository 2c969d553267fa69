//! A replica in a process of its own, so that it can be killed.

use std::net::{Ipv4Addr, SocketAddr};

use testkit::origin::Origin;
use testkit::wait::wait_until;
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::child::again;

const NAME: &str = "APPPROXY_TEST_REPLICA_NAME";
const ADDRESS: &str = "APPPROXY_TEST_REPLICA_ADDRESS";

/// A replica, when [`Replica`] started this process; its answers name it.
#[tokio::test(flavor = "multi_thread")]
async fn replica_process() {
    let Ok(name) = std::env::var(NAME) else { return };
    let address = std::env::var(ADDRESS).unwrap().parse().unwrap();
    let _origin = Origin::start_at(&name, address).await;
    std::future::pending().await
}

/// A replica that can be killed and started again.
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Replica {
    pub(crate) async fn start(name: &str) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, testkit::ports::free_port()));
        Self { name: name.to_owned(), address, child: spawn(name, address).await }
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again after [`Replica::kill`], at the same address.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.name, self.address).await;
    }
}

async fn spawn(name: &str, address: SocketAddr) -> Child {
    let mut command = again("replicas::process::replica_process");
    let child = command.env(NAME, name).env(ADDRESS, address.to_string()).spawn().unwrap();
    wait_until("the replica", async || TcpStream::connect(address).await.is_ok()).await;
    child
}
