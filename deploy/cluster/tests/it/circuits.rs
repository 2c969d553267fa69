//! What tests do with circuits again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cluster::Cluster;
use entities::registry::Registry;
use entities::registry::layout::{CircuitState, Meta, Place};
use reqwest::StatusCode;
use serde_json::Value;
use testkit::manager::{circuit, host_and_port};
use testkit::wait::wait_until;

/// An open circuit at a subdomain.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) key: String,
    pub(crate) host: String,
}

impl Opened {
    fn of(reply: &Value) -> Self {
        Self { key: reply["key"].as_str().unwrap().to_owned(), host: host_and_port(reply).0 }
    }
}

/// Opens so many, each of which must answer `201`.
pub(crate) async fn open(cluster: &Cluster, session: &str, count: usize, target: SocketAddr) -> Vec<Opened> {
    let mut opened = Vec::new();
    for index in 0..count {
        let body = circuit(session, &format!("app-{index}"), "subdomain", &[target]);
        opened.push(Opened::of(&cluster.manager.open(body).await));
    }
    opened
}

/// Opens one while something is away, and gives back the status.
pub(crate) async fn try_open(cluster: &Cluster, session: &str, target: SocketAddr) -> (StatusCode, Value) {
    let body = circuit(session, "app", "subdomain", &[target]);
    cluster.manager.call("POST", "/v2/circuits", Some(body)).await
}

/// Each circuit is served at every edge.
pub(crate) async fn assert_served(cluster: &Cluster, circuits: &[Opened]) {
    assert_status(cluster, circuits, StatusCode::OK).await;
}

/// No circuit is served at any edge.
pub(crate) async fn assert_gone(cluster: &Cluster, circuits: &[Opened]) {
    assert_status(cluster, circuits, StatusCode::NOT_FOUND).await;
}

async fn assert_status(cluster: &Cluster, circuits: &[Opened], status: StatusCode) {
    for edge in &cluster.edges {
        for circuit in circuits {
            assert_eq!(edge.get(&circuit.host).await.unwrap().status, status, "{circuit:?} at {}", edge.id);
        }
    }
}

/// Waits until a circuit that was stored but not served is served at every edge.
pub(crate) async fn wait_until_served(cluster: &Cluster, key: &str) {
    wait_until(&format!("{key} to be served"), async || {
        let (status, reply) = cluster.manager.call("GET", &format!("/v2/circuits/{key}"), None).await;
        if status != StatusCode::OK {
            return false;
        }
        let host = Opened::of(&reply).host;
        for edge in &cluster.edges {
            if edge.get(&host).await.unwrap().status != StatusCode::OK {
                return false;
            }
        }
        true
    })
    .await;
}

/// Waits until the registry holds the circuits of the store, all of them and no other, each at the same generation.
pub(crate) async fn wait_until_equal(cluster: &Cluster) {
    wait_until("store and registry to be equal", async || {
        let stored = stored(cluster).await;
        matches!(published(cluster).await, Some(published) if published == stored)
    })
    .await;
}

async fn stored(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut circuits = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = cluster.manager.call("GET", &format!("/v2/circuits?limit=1000{cursor}"), None).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        for item in page["items"].as_array().unwrap() {
            circuits.insert(item["key"].as_str().unwrap().to_owned(), item["generation"].as_u64().unwrap());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return circuits,
        }
    }
}

/// `None` while the registry is not complete.
async fn published(cluster: &Cluster) -> Option<BTreeMap<String, u64>> {
    let layout = cluster.layout();
    let listing = cluster.registry().list(&layout.root()).await.ok()?;
    let mut circuits = BTreeMap::new();
    let mut is_complete = false;
    for entry in &listing.entries {
        match layout.parse(&entry.key) {
            Place::Meta => is_complete = Meta::decode(&entry.value).ok()?.complete,
            Place::Circuit(key) => {
                if let CircuitState::Open(open) = CircuitState::decode(&entry.value).ok()? {
                    circuits.insert(key.to_string(), open.generation.0);
                }
            }
            Place::Key(_) | Place::Other => {}
        }
    }
    is_complete.then_some(circuits)
}
