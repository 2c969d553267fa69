//! Promise 4: edges serve what they know while everything else is away, and across a restart.

use cluster::{Cluster, Options};
use reqwest::StatusCode;
use testkit::origin::Origin;

use crate::circuits::{assert_served, open, wait_until_equal};
use crate::load::Load;

const CIRCUITS: usize = 20;
const SOCKETS_PER_EDGE: usize = 25;
const REQUESTS_PER_SECOND: u64 = 200;

/// What goes on during each outage: two seconds of it.
const REQUESTS: usize = 400;
const MESSAGES: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_and_no_websocket_ends_while_etcd_postgresql_and_coordinator_are_killed() {
    let options = Options { edges: 3, has_own_postgres: true, ..Options::default() };
    let mut cluster = Cluster::start_with(options).await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", CIRCUITS, origin.address()).await;

    let mut load = Load::new();
    let mut sockets = Vec::new();
    for number in 0..2 * SOCKETS_PER_EDGE {
        sockets.push(cluster.edges[number % 2].websocket(&circuits[number % CIRCUITS].host).await);
    }
    load.speak(sockets);
    let hosts = circuits.iter().map(|circuit| circuit.host.clone()).collect();
    load.ask(&[&cluster.edges[0], &cluster.edges[1]], hosts, REQUESTS_PER_SECOND);
    load.go_on(REQUESTS, MESSAGES).await;

    cluster.etcd.kill();
    load.go_on(REQUESTS, MESSAGES).await;
    cluster.etcd.restart().await;
    load.go_on(REQUESTS, MESSAGES).await;

    cluster.database.server().kill();
    load.go_on(REQUESTS, MESSAGES).await;
    cluster.database.server().restart();

    cluster.coordinator.kill();
    load.go_on(REQUESTS, MESSAGES).await;
    cluster.coordinator.start();
    load.go_on(REQUESTS, MESSAGES).await;

    cluster.etcd.kill();
    cluster.database.server().kill();
    cluster.coordinator.kill();
    load.go_on(REQUESTS, MESSAGES).await;
    // Nothing is there that could tell this one what to serve, but its own disk.
    let restarted = &mut cluster.edges[2];
    restarted.process.kill();
    restarted.process.start();
    testkit::wait::wait_until("the restarted edge", async || restarted.stale().await.is_some()).await;
    assert_eq!(restarted.stale().await.flatten().as_deref(), Some("unreachable"));
    for circuit in &circuits {
        assert_eq!(restarted.get(&circuit.host).await.unwrap().status, StatusCode::OK, "{circuit:?}");
    }

    cluster.coordinator.start();
    cluster.database.server().restart();
    cluster.etcd.restart().await;
    cluster.wait_until_alive().await;
    load.go_on(REQUESTS, MESSAGES).await;
    let more = open(&cluster, "s2", 3, origin.address()).await;
    assert_served(&cluster, &more).await;
    wait_until_equal(&cluster).await;
    load.finish().await;
}
