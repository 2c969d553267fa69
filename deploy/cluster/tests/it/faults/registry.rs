//! etcd holds nonsense, is compacted, restarted, full or slow, or ends a lease.

use cluster::{Cluster, Options};
use entities::registry::{Expected, Registry, Swap};
use reqwest::StatusCode;
use testkit::etcd;
use testkit::origin::Origin;
use testkit::wait::wait_until;

use crate::circuits::{assert_served, open, try_open, wait_until_equal, wait_until_served};
use crate::load::Load;

#[tokio::test(flavor = "multi_thread")]
async fn values_that_nobody_can_read_are_skipped_counted_and_logged() {
    // Reconcile would remove them.
    let slow = vec![("APPPROXY_REGISTRY__RECONCILE_INTERVAL_S", "3600".to_owned())];
    let cluster = Cluster::start_with(Options { coordinator: slow, ..Options::default() }).await;
    let origin = Origin::start("app").await;
    let mine = open(&cluster, "s1", 2, origin.address()).await;
    let registry = cluster.registry();
    let layout = cluster.layout();
    for (key, value) in [(&mine[0].key, &b"{\"schema\":1,"[..]), (&mine[1].key, br#"{"schema":99,"generation":9}"#)] {
        let place = layout.circuit(&key.parse().unwrap());
        let (entry, _) = registry.get(&place).await.unwrap();
        let expected = Expected::At(entry.unwrap().revision);
        assert!(matches!(registry.put(&place, expected, value.to_vec(), None).await.unwrap(), Swap::Done(_)));
    }
    // Edges that are told of this one have been told of those before.
    let after = open(&cluster, "s2", 1, origin.address()).await;
    assert_served(&cluster, &mine).await;
    assert_served(&cluster, &after).await;
    for edge in &cluster.edges {
        for reason in ["malformed", "unknown_schema"] {
            let name = format!("appproxy_edge_registry_values_skipped_total{{reason=\"{reason}\"}}");
            assert!(edge.metric(&name).await >= 1.0, "{reason} at {}", edge.id);
        }
        for circuit in &mine {
            let is_logged = |line: &str| line.contains("cannot be read") && line.contains(&circuit.key);
            assert!(edge.process.log().lines().any(is_logged), "{circuit:?} at {}", edge.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_hangs_is_lagging_and_catches_up_after_etcd_was_compacted_and_restarted() {
    let hurried = vec![("APPPROXY_CIRCUITS__APPLY_TIMEOUT_MS", "500".to_owned())];
    let mut cluster = Cluster::start_with(Options { coordinator: hurried, ..Options::default() }).await;
    let origin = Origin::start("app").await;
    cluster.edges[1].process.freeze();
    let (status, reply) = try_open(&cluster, "s1", origin.address()).await;
    assert_eq!((status, &reply["applied"]["pending"][0]), (StatusCode::ACCEPTED, &"edge-2".into()), "{reply}");
    wait_until("edge-2 to be LAGGING", async || {
        cluster.manager.call("GET", "/v2/workers/edge-2", None).await.1["status"] == "LAGGING"
    })
    .await;
    // Nobody waits for it any more.
    let meanwhile = open(&cluster, "s2", 20, origin.address()).await;
    let (_, revision) = cluster.registry().get("/").await.unwrap();
    cluster.etcd.compact(revision).await;
    cluster.etcd.restart().await;
    cluster.edges[1].process.thaw();
    cluster.wait_until_alive().await;
    assert_served(&cluster, &meanwhile).await;
    wait_until_served(&cluster, "s1:app").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_etcd_is_noticed_by_nobody() {
    let mut cluster = Cluster::start().await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 10, origin.address()).await;
    let mut load = Load::new();
    load.speak(vec![cluster.edges[0].websocket(&circuits[0].host).await]);
    load.ask(
        &[&cluster.edges[0], &cluster.edges[1]],
        circuits.iter().map(|circuit| circuit.host.clone()).collect(),
        100,
    );
    for round in 0..3 {
        cluster.etcd.stop().await;
        load.go_on(50, 5).await;
        let (status, reply) = try_open(&cluster, &format!("away{round}"), origin.address()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "stored, not served yet: {reply}");
        cluster.etcd.restart().await;
        wait_until_served(&cluster, &format!("away{round}:app")).await;
    }
    load.finish().await;
    wait_until_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_takes_nothing_new_and_loses_nothing() {
    const QUOTA: &str = "--quota-backend-bytes=8388608";
    let etcd_options = etcd::Options { arguments: vec![QUOTA.to_owned()], ..etcd::Options::default() };
    let cluster = Cluster::start_with(Options { etcd_options, ..Options::default() }).await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 3, origin.address()).await;
    let registry = cluster.registry();
    let mut number = 0;
    let refused = loop {
        let key = format!("/junk/{number:06}");
        match registry.put(&key, Expected::Absent, vec![b'x'; 16_384], None).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("space exceeded"), "{refused}");
    let (status, reply) = try_open(&cluster, "full", origin.address()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "stored, not served yet: {reply}");
    assert_served(&cluster, &circuits).await;

    cluster.etcd.make_room("/junk/").await;
    wait_until_served(&cluster, "full:app").await;
    open(&cluster, "later", 1, origin.address()).await;
    wait_until_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_hangs_holds_up_no_request_and_answers_come_in_time() {
    let quick = ("APPPROXY_REGISTRY__REQUEST_TIMEOUT_MS", "1000".to_owned());
    let options = Options { coordinator: vec![quick.clone()], edge: vec![quick], ..Options::default() };
    let cluster = Cluster::start_with(options).await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 3, origin.address()).await;
    let mut load = Load::new();
    load.ask(
        &[&cluster.edges[0], &cluster.edges[1]],
        circuits.iter().map(|circuit| circuit.host.clone()).collect(),
        100,
    );
    cluster.etcd.freeze();
    let (status, reply) = try_open(&cluster, "slow", origin.address()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "stored, not served yet: {reply}");
    load.go_on(100, 0).await;
    cluster.etcd.thaw();
    wait_until_served(&cluster, "slow:app").await;
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_whose_lease_was_lost_writes_its_key_again() {
    let cluster = Cluster::start().await;
    let registry = cluster.registry();
    let keys: Vec<String> =
        cluster.edges.iter().map(|edge| cluster.layout().worker(&edge.id.parse().unwrap())).collect();
    let mut before = Vec::new();
    for key in &keys {
        wait_until("the worker's key", async || registry.get(key).await.unwrap().0.is_some()).await;
        before.push(registry.get(key).await.unwrap().0.unwrap().revision);
    }
    cluster.etcd.end_leases().await;
    for (key, before) in keys.iter().zip(before) {
        wait_until("the worker's key again", async || {
            registry.get(key).await.unwrap().0.is_some_and(|entry| entry.revision > before)
        })
        .await;
    }
}
