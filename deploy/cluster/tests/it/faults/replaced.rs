//! etcd is emptied, restored from an old copy, or another one: no circuit is lost at an edge, and registry and store
//! are equal afterwards.

use cluster::Cluster;
use entities::registry::Registry;
use reqwest::StatusCode;
use testkit::etcd::{Etcd, Program};
use testkit::origin::Origin;
use testkit::wait::wait_until;

use crate::circuits::{Opened, assert_gone, assert_served, open, try_open, wait_until_equal, wait_until_served};
use crate::load::Load;

/// Requests of which none fails, for these circuits at both edges.
fn ask(cluster: &Cluster, circuits: &[Opened]) -> Load {
    let mut load = Load::new();
    let hosts = circuits.iter().map(|circuit| circuit.host.clone()).collect();
    load.ask(&[&cluster.edges[0], &cluster.edges[1]], hosts, 150);
    load
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_etcd_is_filled_again_and_no_edge_loses_a_circuit() {
    let mut cluster = Cluster::start().await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 30, origin.address()).await;
    let load = ask(&cluster, &circuits);
    load.go_on(100, 0).await;
    cluster.etcd.wipe().await;
    wait_until_equal(&cluster).await;
    cluster.wait_until_alive().await;
    load.go_on(100, 0).await;
    load.finish().await;
    assert_served(&cluster, &circuits).await;
    open(&cluster, "s2", 3, origin.address()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_etcd_is_filled_by_a_coordinator_that_was_away_meanwhile() {
    let mut cluster = Cluster::start().await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 30, origin.address()).await;
    let load = ask(&cluster, &circuits);
    cluster.coordinator.kill();
    cluster.etcd.wipe().await;
    for edge in &cluster.edges {
        wait_until("the edge to notice", async || edge.stale().await.flatten().as_deref() == Some("incomplete")).await;
    }
    load.go_on(100, 0).await;
    cluster.coordinator.start();
    cluster.wait_until_alive().await;
    load.go_on(100, 0).await;
    load.finish().await;
    wait_until_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_restored_from_an_old_copy_neither_loses_nor_revives_a_circuit() {
    let mut cluster = Cluster::start().await;
    let origin = Origin::start("app").await;
    let old = open(&cluster, "old", 20, origin.address()).await;
    let copy = cluster.etcd.copy().await;
    cluster.wait_until_alive().await;
    let new = open(&cluster, "new", 20, origin.address()).await;
    let (closed, kept) = old.split_at(10);
    for circuit in closed {
        cluster.manager.close(&circuit.key).await;
    }
    for circuit in &kept[..5] {
        let path = format!("/v2/circuits/{}", circuit.key);
        let patch = serde_json::json!({"labels": {"changed": "since"}});
        let (status, reply) = cluster.manager.call("PATCH", &path, Some(patch)).await;
        assert_eq!(status, StatusCode::OK, "{reply}");
    }
    let serving: Vec<Opened> = kept.iter().chain(&new).cloned().collect();
    let load = ask(&cluster, &serving);
    load.go_on(100, 0).await;
    let before = cluster.registry().epoch(&cluster.layout()).await.unwrap();
    cluster.etcd.restore(&copy).await;
    assert_gone(&cluster, closed).await;
    wait_until_equal(&cluster).await;
    assert_ne!(cluster.registry().epoch(&cluster.layout()).await.unwrap(), before, "revisions count anew");
    cluster.wait_until_alive().await;
    load.go_on(100, 0).await;
    load.finish().await;
    assert_served(&cluster, &serving).await;
    assert_gone(&cluster, closed).await;
    open(&cluster, "later", 3, origin.address()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_etcd_of_another_cluster_changes_nothing_here_and_is_not_written_to() {
    let mut cluster = Cluster::start().await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 20, origin.address()).await;
    let theirs = {
        let mut other = Cluster::start().await;
        let elsewhere = Origin::start("theirs").await;
        open(&other, "theirs", 5, elsewhere.address()).await;
        other.coordinator.kill();
        other.etcd.copy().await
    };
    let ours = cluster.etcd.copy().await;
    cluster.wait_until_alive().await;
    let load = ask(&cluster, &circuits);
    load.go_on(100, 0).await;
    cluster.etcd.restore(&theirs).await;
    for edge in &cluster.edges {
        let reason = Some("other_installation");
        wait_until("the edge to notice", async || edge.stale().await.flatten().as_deref() == reason).await;
    }
    let (status, reply) = try_open(&cluster, "meanwhile", origin.address()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "stored, not served yet: {reply}");
    assert!(cluster.coordinator.log().contains("belongs to installation"), "{}", cluster.coordinator.log());
    let untouched = {
        let written = cluster.etcd.copy().await;
        let mut probe = Etcd::start(Program::Distribution).await;
        probe.restore(&written).await;
        let listing = probe.registry().list(&cluster.layout().circuits()).await;
        listing.unwrap().entries.iter().all(|entry| entry.key.contains("theirs:"))
    };
    assert!(untouched, "nothing of ours is written there");
    load.go_on(100, 0).await;

    cluster.etcd.restore(&ours).await;
    wait_until_served(&cluster, "meanwhile:app").await;
    wait_until_equal(&cluster).await;
    cluster.wait_until_alive().await;
    load.finish().await;
    assert_served(&cluster, &circuits).await;
}
