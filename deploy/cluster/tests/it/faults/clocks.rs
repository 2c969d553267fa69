//! The clocks of the machines are an hour apart.

use std::path::Path;

use cluster::{Cluster, Options};
use reqwest::StatusCode;
use testkit::origin::Origin;
use testkit::wait::wait_until;

use crate::circuits::{assert_served, open, wait_until_equal};

/// Lets a program see another time of day; what counts seconds goes on as it is.
fn clock(offset: &str) -> Vec<(&'static str, String)> {
    let folder = format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH);
    let library = std::env::var("APPPROXY_TEST_FAKETIME").unwrap_or(format!("{folder}/libfaketime.so.1"));
    assert!(Path::new(&library).is_file(), "there is no {library}: install faketime, or set APPPROXY_TEST_FAKETIME");
    vec![
        ("LD_PRELOAD", library),
        ("FAKETIME", offset.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_an_hour_apart_lose_no_worker_and_no_circuit() {
    let options = Options { coordinator: clock("-1h"), edge: clock("+1h"), ..Options::default() };
    let mut cluster = Cluster::start_with(options).await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 5, origin.address()).await;

    // A coordinator whose clock is two hours further on takes nobody for dead.
    cluster.coordinator.kill();
    cluster.coordinator = cluster.files.coordinator(&clock("+1h"));
    cluster.coordinator.start();
    cluster.wait_until_alive().await;
    let more = open(&cluster, "s2", 3, origin.address()).await;
    assert_served(&cluster, &more).await;
    assert!(!cluster.coordinator.log().contains("worker is lost"), "{}", cluster.coordinator.log());
    wait_until_equal(&cluster).await;

    // An edge whose clock went back takes its snapshot for new, and one whose clock went on for an hour older.
    for offset in ["-1h", "+2h"] {
        cluster.etcd.kill();
        cluster.edges[1].process.kill();
        cluster.edges[1] = cluster.files.edge(2, &clock(offset));
        cluster.edges[1].process.start();
        let edge = &cluster.edges[1];
        wait_until("the edge to serve from its snapshot", async || edge.stale().await.is_some()).await;
        for circuit in &circuits {
            assert_eq!(edge.get(&circuit.host).await.unwrap().status, StatusCode::OK, "{circuit:?} at {offset}");
        }
        cluster.etcd.restart().await;
        cluster.wait_until_alive().await;
    }
}
