//! PostgreSQL restarts, breaks off in the middle of transactions, has no connection left, or hangs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::{Cluster, Options};
use futures_util::future::{join, join_all};
use reqwest::StatusCode;
use testkit::manager::circuit;
use testkit::origin::Origin;
use testkit::postgres::USER;
use testkit::wait::wait_until;

use crate::circuits::{assert_served, open, try_open, wait_until_equal, wait_until_served};

async fn start() -> Cluster {
    Cluster::start_with(Options { has_own_postgres: true, ..Options::default() }).await
}

/// Opens circuits with several clients until `is_over`, and gives back the keys that were answered with `201`.
async fn open_until(cluster: &Cluster, origin: &Origin, is_over: &AtomicBool) -> BTreeSet<String> {
    let client = async |number: usize| {
        let mut opened = BTreeSet::new();
        for index in 0.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let body = circuit(&format!("c{number}"), &format!("app-{index}"), "subdomain", &[origin.address()]);
            let (status, reply) = cluster.manager.call("POST", "/v2/circuits", Some(body)).await;
            match status {
                StatusCode::CREATED => drop(opened.insert(reply["key"].as_str().unwrap().to_owned())),
                _ => {
                    assert_eq!((status, &reply["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"store_unavailable".into()))
                }
            }
        }
        opened
    };
    join_all((0..4).map(client)).await.into_iter().flatten().collect()
}

/// Every circuit that was answered with `201` is there, and everything that is there is served.
async fn assert_nothing_lost(cluster: &Cluster, opened: &BTreeSet<String>) {
    wait_until_equal(cluster).await;
    for key in opened {
        wait_until_served(cluster, key).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_break_off_are_503_and_lose_nothing_that_was_answered() {
    let cluster = start().await;
    let cluster::Database::Own { server, .. } = &cluster.database else { panic!("it has its own") };
    let origin = Origin::start("app").await;
    let is_over = AtomicBool::new(false);
    let breaking = async {
        for _ in 0..25 {
            // Each cut meets whatever is under way; the next begins when something has gone through again.
            tokio::task::block_in_place(|| server.cut_connections());
            open_one(&cluster, &origin).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (opened, ()) = join(open_until(&cluster, &origin, &is_over), breaking).await;
    assert!(!opened.is_empty());
    assert_nothing_lost(&cluster, &opened).await;
}

/// Opens one, trying again while the database breaks off.
async fn open_one(cluster: &Cluster, origin: &Origin) {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let session = format!("one{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    wait_until("a circuit to be opened", async || {
        let (status, _) = try_open(cluster, &session, origin.address()).await;
        matches!(status, StatusCode::CREATED | StatusCode::OK)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_postgresql_is_503_for_a_while_and_loses_nothing_that_was_answered() {
    let mut cluster = start().await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 5, origin.address()).await;
    cluster.database.server().stop();
    let (status, reply) = try_open(&cluster, "away", origin.address()).await;
    assert_eq!((status, &reply["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"store_unavailable".into()));
    assert_served(&cluster, &circuits).await;
    cluster.database.server().restart();
    open_one(&cluster, &origin).await;
    open(&cluster, "away", 1, origin.address()).await;
    assert_served(&cluster, &circuits).await;
    wait_until_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_the_answer_is_503_and_edges_serve_on() {
    let mut cluster = start().await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 5, origin.address()).await;
    let server = cluster.database.server();
    server.run_sql("postgres", &format!("ALTER ROLE {USER} CONNECTION LIMIT 0"));
    server.cut_connections();
    let (status, reply) = try_open(&cluster, "away", origin.address()).await;
    assert_eq!((status, &reply["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"store_unavailable".into()), "{reply}");
    assert!(cluster.coordinator.log().contains("the store failed"), "{}", cluster.coordinator.log());
    assert_served(&cluster, &circuits).await;
    cluster.database.server().run_sql("postgres", &format!("ALTER ROLE {USER} CONNECTION LIMIT -1"));
    open_one(&cluster, &origin).await;
    wait_until_equal(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_hangs_is_503_in_time() {
    let mut cluster = start().await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 3, origin.address()).await;
    cluster.database.server().freeze();
    let (status, reply) = try_open(&cluster, "slow", origin.address()).await;
    assert_eq!((status, &reply["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"store_unavailable".into()), "{reply}");
    assert_served(&cluster, &circuits).await;
    cluster.database.server().thaw();
    open_one(&cluster, &origin).await;
    wait_until_equal(&cluster).await;
}
