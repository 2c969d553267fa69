//! What was configured as a secret is found nowhere else.

use cluster::config::{MANAGER_KEY, SIGNING_KEY, WORKER_KEY};
use cluster::{Cluster, Options};
use testkit::origin::Origin;
use testkit::postgres::PASSWORD;

use crate::circuits::{open, try_open};

const SECRETS: [&str; 4] = [MANAGER_KEY, WORKER_KEY, SIGNING_KEY, PASSWORD];

fn assert_clean(what: &str, bytes: &[u8]) {
    assert!(!bytes.is_empty(), "{what} is empty");
    for secret in SECRETS {
        let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_there, "{what} holds {secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_etcd_the_database_a_log_or_an_answer() {
    let log = ("APPPROXY_LOG__FILTER", "trace".to_owned());
    let options =
        Options { has_own_postgres: true, coordinator: vec![log.clone()], edge: vec![log], ..Options::default() };
    let mut cluster = Cluster::start_with(options).await;
    let origin = Origin::start("app").await;
    let circuits = open(&cluster, "s1", 3, origin.address()).await;
    cluster.manager.close(&circuits[0].key).await;
    let mut answers = String::new();
    let paths =
        ["/v2/circuits", "/v2/workers", "/v2/workers/edge-1", "/v2/authorities", "/status", "/metrics", "/health"];
    for path in paths.into_iter().chain(["/v2/openapi.json", "/v2/circuits/none:app", "/nowhere"]) {
        answers += &cluster.manager.call("GET", path, None).await.1.to_string();
    }
    for edge in &cluster.edges {
        for path in ["/status", "/metrics", "/health", "/v2/sync"] {
            answers += &edge.api(path).await.unwrap().body;
        }
    }
    // Errors tell more than success.
    cluster.etcd.kill();
    answers += &try_open(&cluster, "without-etcd", origin.address()).await.1.to_string();
    cluster.database.server().stop();
    answers += &try_open(&cluster, "without-database", origin.address()).await.1.to_string();
    cluster.database.server().restart();
    cluster.etcd.restart().await;
    cluster.wait_until_alive().await;

    assert_clean("an answer", answers.as_bytes());
    assert_clean("etcd", &cluster.etcd.everything());
    let url = cluster.database.url();
    let server = cluster.database.server();
    assert_clean("the database", server.dump(&url).as_bytes());
    assert_clean("the database's log", server.log().as_bytes());
    assert_clean("the coordinator's log", cluster.coordinator.log().as_bytes());
    for edge in &cluster.edges {
        assert_clean("an edge's log", edge.process.log().as_bytes());
        let snapshot = std::fs::read(cluster.files.folder.join(&edge.id).join("circuits.snapshot")).unwrap();
        assert_clean("an edge's snapshot", &snapshot);
    }
}
