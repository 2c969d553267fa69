//! A coordinator is killed between commit and publish, an edge while it writes its snapshot; two edges have one id.

use std::time::{Duration, Instant};

use cluster::{Cluster, Options};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use testkit::manager::{circuit, host_and_port};
use testkit::origin::Origin;
use testkit::wait::wait_until;

use crate::circuits::{assert_gone, assert_served, open, wait_until_equal, wait_until_served};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_coordinator_had_committed_and_not_published_is_served_after_its_restart() {
    let mut cluster = Cluster::start_with(Options { has_own_postgres: true, ..Options::default() }).await;
    let origin = Origin::start("app").await;
    let closing = open(&cluster, "closing", 1, origin.address()).await;
    let count = |cluster: &mut Cluster, table: &str| {
        cluster.database.server().run_sql("test0", &format!("SELECT count(*) FROM {table}")).trim().to_owned()
    };
    // Publishing hangs at etcd.
    cluster.etcd.freeze();
    let manager = cluster.manager.clone();
    let body = circuit("opening", "app", "subdomain", &[origin.address()]);
    let opening = tokio::spawn(async move { manager.try_call("POST", "/v2/circuits", Some(body)).await });
    wait_until("the commit", async || count(&mut cluster, "circuits") == "2").await;
    let manager = cluster.manager.clone();
    let closing_call =
        tokio::spawn(async move { manager.try_call("DELETE", "/v2/circuits/closing:app-0", None).await });
    wait_until("the other commit", async || count(&mut cluster, "tombstones") == "1").await;
    cluster.coordinator.kill();
    assert!(opening.await.unwrap().is_err() && closing_call.await.unwrap().is_err(), "nobody was told anything");
    cluster.etcd.thaw();

    cluster.coordinator.start();
    cluster.wait_until_alive().await;
    wait_until_served(&cluster, "opening:app").await;
    wait_until_equal(&cluster).await;
    for edge in &cluster.edges {
        wait_until("the closed one to go", async || {
            edge.get(&closing[0].host).await.unwrap().status == StatusCode::NOT_FOUND
        })
        .await;
    }
    assert_gone(&cluster, &closing).await;
}

/// Longer than the second that the design allows: a loaded machine writes late.
const MISSING_LIMIT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_killed_while_it_writes_its_snapshot_still_serves_what_is_older() {
    let seed = rand::rng().random::<u64>();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start().await;
    let origin = Origin::start("app").await;
    let mut opened: Vec<(Instant, String)> = Vec::new();
    for round in 0..4 {
        let mut first = None;
        let goes_on_for = MISSING_LIMIT + Duration::from_millis(rng.random_range(0..700));
        for index in 0.. {
            // Something is written all the time, and the kill comes at any moment of it; the first one is old by then.
            if first.is_some_and(|at: Instant| at.elapsed() > goes_on_for) {
                break;
            }
            let body = circuit("s1", &format!("app-{round}-{index}"), "subdomain", &[origin.address()]);
            let (host, _) = host_and_port(&cluster.manager.open(body).await);
            let opened_at = Instant::now();
            first.get_or_insert(opened_at);
            opened.push((opened_at, host));
        }
        let edge = &mut cluster.edges[1];
        edge.process.kill();
        let killed = Instant::now();
        cluster.etcd.kill();
        edge.process.start();
        wait_until("the edge to serve from its snapshot", async || edge.stale().await.is_some()).await;
        let old = opened.iter().filter(|(at, _)| killed.duration_since(*at) > MISSING_LIMIT);
        let mut count = 0;
        for (_, host) in old {
            assert_eq!(edge.get(host).await.unwrap().status, StatusCode::OK, "{host} in round {round}");
            count += 1;
        }
        assert!(count > 0, "round {round} has seen nothing old");
        cluster.etcd.restart().await;
        cluster.wait_until_alive().await;
    }
    wait_until_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_edge_with_the_same_id_is_not_ready_until_the_first_has_gone() {
    let mut cluster = Cluster::start().await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 3, origin.address()).await;
    let mut second = cluster.files.edge(3, &[("APPPROXY_WORKER__ID", "edge-1".to_owned())]);
    second.process.start();
    wait_until("the second to be refused", async || {
        let Ok(answer) = second.api("/health/readyz").await else { return false };
        answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.body.contains("id_in_use")
    })
    .await;
    assert_served(&cluster, &circuits).await;
    open(&cluster, "s2", 1, origin.address()).await;

    assert!(cluster.edges[0].process.terminate().await.success());
    wait_until("the second to be taken up", async || second.stale().await == Some(None)).await;
    cluster.edges[0] = second;
    cluster.wait_until_alive().await;
    let more = open(&cluster, "s3", 1, origin.address()).await;
    assert_served(&cluster, &more).await;
}
