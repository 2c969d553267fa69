//! The edge's own key in the registry.

use std::time::Duration;

use entities::registry::memory::MemoryRegistry;
use entities::registry::{Entry, Expected, Registry as _};
use serde_json::Value;
use testkit::wait::wait_until;

use crate::harness::TestEdge;

const KEY: &str = "/appproxy/workers/w1";

async fn start() -> TestEdge {
    TestEdge::start_with(|config| config.keep_alive_interval = Duration::from_millis(10)).await
}

async fn card(registry: &MemoryRegistry) -> Option<Entry> {
    registry.get(KEY).await.expect("in memory").0
}

async fn wait_present(edge: &TestEdge) -> Entry {
    wait_until("the key", async || card(&edge.registry).await.is_some()).await;
    card(&edge.registry).await.expect("it has just been there")
}

#[tokio::test]
async fn the_key_says_who_is_there_and_goes_when_the_edge_leaves() {
    let edge = start().await;
    let card_value: Value = serde_json::from_slice(&wait_present(&edge).await.value).expect("JSON");
    assert_eq!((&card_value["worker_id"], &card_value["authority"]), (&"w1".into(), &"main".into()));
    assert_eq!(card_value["api_url"], format!("http://{}", edge.address));
    let status: Value = edge.get("127.0.0.1", "/status").await.json().await.expect("JSON");
    assert_eq!((&card_value["boot_id"], &card_value["version"]), (&status["boot_id"], &status["version"]));
    let registry = edge.registry.clone();
    edge.stop().await;
    assert_eq!(card(&registry).await, None);
}

#[tokio::test]
async fn a_key_that_was_lost_comes_again() {
    let mut edge = start().await;
    let first = wait_present(&edge).await;
    // The key alone, and then its lease together with everything else.
    edge.registry.delete(KEY, first.revision).await.expect("in memory");
    wait_present(&edge).await;
    edge.exchange_registry(MemoryRegistry::new());
    wait_present(&edge).await;
    edge.line.take_away();
    edge.line.exchange(MemoryRegistry::new());
    edge.line.bring_back();
    wait_until("the key in the new registry", async || edge.line.get(KEY).await.expect("there").0.is_some()).await;
}

#[tokio::test]
async fn the_key_of_another_run_is_left_alone_until_it_is_gone() {
    let edge = TestEdge::start_incomplete(|config| config.has_worker_key_in_registry = false).await;
    let other = br#"{"boot_id":"00000000-0000-0000-0000-000000000001"}"#.to_vec();
    let lease = edge.registry.grant_lease(Duration::from_secs(60)).await.expect("in memory");
    edge.registry.put(KEY, Expected::Absent, other.clone(), Some(lease)).await.expect("in memory");
    let edge = edge.restart(|config| config.keep_alive_interval = Duration::from_millis(10)).await;
    edge.put_meta(edge.epoch, true).await;
    edge.wait_applied().await;
    assert_eq!(card(&edge.registry).await.expect("there").value, other);
    edge.registry.revoke_lease(lease).await.expect("in memory");
    assert_ne!(wait_present(&edge).await.value, other);
}

#[tokio::test]
async fn an_edge_may_do_without_a_key() {
    let edge = TestEdge::start_with(|config| config.has_worker_key_in_registry = false).await;
    edge.put_meta(edge.epoch, true).await;
    edge.wait_applied().await;
    assert_eq!(card(&edge.registry).await, None);
}
