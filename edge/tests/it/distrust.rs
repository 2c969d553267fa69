//! A registry that is away, empty, incomplete, restored, somebody else's, or that forgets too much at once.

use std::time::Duration;

use entities::circuit::Circuit;
use entities::ids::{Epoch, InstallationId};
use entities::registry::memory::MemoryRegistry;
use entities::token::{Claims, SigningKey, TokenKind};
use serde_json::Value;
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::registry::copy_of;
use testkit::wait::wait_until;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, at, by_host, by_port, name_of};

/// An edge that serves `lab`, and the origin behind that.
async fn serving() -> (TestEdge, Origin, Circuit) {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let lab = by_host("lab", vec![origin.target()]);
    edge.serve(&lab).await;
    (edge, origin, lab)
}

async fn wait_stale(edge: &TestEdge, reason: &str) -> Value {
    wait_until(reason, async || edge.stale().await["reason"] == reason).await;
    assert_eq!(edge.metric(&format!("appproxy_edge_stale{{reason=\"{reason}\"}}")).await, 1.0);
    let status: Value = edge.get("127.0.0.1", "/status").await.json().await.expect("JSON");
    assert_eq!(status["stale"]["reason"], reason);
    edge.stale().await
}

async fn wait_fresh(edge: &TestEdge) {
    wait_until("the edge to be confirmed", async || edge.stale().await.is_null()).await;
    for reason in ["unreachable", "incomplete", "other_installation", "restored", "mass_removal"] {
        assert_eq!(edge.metric(&format!("appproxy_edge_stale{{reason=\"{reason}\"}}")).await, 0.0);
    }
}

async fn is_served(edge: &TestEdge, name: &str) -> bool {
    edge.get(&format!("{name}.apps.test"), "/").await.status() == 200
}

#[tokio::test]
async fn a_registry_that_is_away_leaves_everything_served_and_the_edge_ready_and_stale() {
    let (edge, origin, lab) = serving().await;
    assert!(edge.stale().await.is_null());
    edge.line.take_away();
    wait_stale(&edge, "unreachable").await;
    assert!(is_served(&edge, "lab").await);
    edge.publish_closed(&lab).await;
    edge.publish(&by_host("new", vec![origin.target()])).await;
    edge.line.bring_back();
    edge.wait_applied().await;
    wait_fresh(&edge).await;
    assert!(!is_served(&edge, "lab").await);
    assert!(is_served(&edge, "new").await);
}

#[tokio::test]
async fn a_registry_that_was_wiped_leaves_everything_served_until_it_is_filled_again() {
    let (mut edge, origin, lab) = serving().await;
    let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");
    edge.exchange_registry(MemoryRegistry::new());
    wait_stale(&edge, "incomplete").await;
    assert_eq!(edge.sync("/v2/sync").await.epoch, None);
    assert!(is_served(&edge, "lab").await);
    edge.epoch = Epoch::random();
    edge.put_meta(edge.epoch, false).await;
    edge.publish(&lab).await;
    edge.publish(&by_host("new", vec![origin.target()])).await;
    edge.put_meta(edge.epoch, true).await;
    edge.wait_applied().await;
    wait_fresh(&edge).await;
    assert!(is_served(&edge, "lab").await && is_served(&edge, "new").await);
    assert_eq!(socket.echo("all the time").await.as_deref(), Some("all the time"));
}

#[tokio::test]
async fn an_incomplete_registry_leaves_everything_served_whatever_it_names() {
    let (edge, origin, lab) = serving().await;
    edge.put_meta(edge.epoch, false).await;
    wait_stale(&edge, "incomplete").await;
    edge.publish_closed(&lab).await;
    edge.publish(&by_host("new", vec![origin.target()])).await;
    assert!(is_served(&edge, "lab").await && !is_served(&edge, "new").await);
    edge.put_meta(edge.epoch, true).await;
    edge.wait_applied().await;
    assert!(!is_served(&edge, "lab").await && is_served(&edge, "new").await);
}

#[tokio::test]
async fn the_registry_of_another_installation_changes_nothing() {
    let (mut edge, origin, lab) = serving().await;
    let (own, ours) = (edge.registry.clone(), edge.installation_id);
    edge.exchange_registry(MemoryRegistry::new());
    edge.installation_id = InstallationId::random();
    edge.publish(&by_host("theirs", vec![origin.target()])).await;
    edge.publish_closed(&lab).await;
    edge.put_meta(Epoch::random(), true).await;
    wait_stale(&edge, "other_installation").await;
    assert!(is_served(&edge, "lab").await && !is_served(&edge, "theirs").await);
    edge.installation_id = ours;
    edge.exchange_registry(own);
    wait_fresh(&edge).await;
    assert!(is_served(&edge, "lab").await);
}

#[tokio::test]
async fn a_restored_registry_brings_no_closed_circuit_back_and_takes_no_new_one_away() {
    let (mut edge, origin, lab) = serving().await;
    let ended = by_host("ended", vec![origin.target()]);
    edge.serve(&ended).await;
    let old = copy_of(&edge.registry).await;
    edge.close(&ended).await;
    let new = by_host("new", vec![origin.target()]);
    edge.serve(&new).await;
    edge.exchange_registry(old);
    wait_stale(&edge, "restored").await;
    assert_eq!(edge.sync("/v2/sync").await.epoch, None);
    assert!(is_served(&edge, "lab").await && is_served(&edge, "new").await && !is_served(&edge, "ended").await);
    // The coordinator begins a new epoch and publishes what its store says.
    edge.epoch = Epoch::random();
    edge.put_meta(edge.epoch, false).await;
    edge.publish_closed(&ended).await;
    edge.publish(&new).await;
    edge.put_meta(edge.epoch, true).await;
    edge.wait_applied().await;
    wait_fresh(&edge).await;
    assert!(is_served(&edge, "lab").await && is_served(&edge, "new").await && !is_served(&edge, "ended").await);
    drop(lab);
}

fn many(count: u32) -> Vec<Circuit> {
    (0..count).map(|number| by_host(&format!("lab-{number}"), vec![])).collect()
}

/// An edge that serves `count` circuits without targets and asks again soon for what is missing.
async fn serving_many(count: u32, change: impl FnOnce(&mut edge::Config)) -> (TestEdge, Vec<Circuit>) {
    let edge = TestEdge::start_with(|config| {
        config.held_back_relist_interval = Duration::from_millis(20);
        change(config);
    })
    .await;
    let circuits = many(count);
    for circuit in &circuits {
        edge.publish(circuit).await;
    }
    edge.wait_applied().await;
    (edge, circuits)
}

/// Deletes circuits from the registry without a trace, while the edge does not look.
async fn lose(edge: &TestEdge, circuits: &[Circuit]) {
    edge.line.take_away();
    for circuit in circuits {
        edge.delete(circuit).await;
    }
    edge.line.bring_back();
}

#[tokio::test]
async fn too_many_missing_circuits_are_held_back_and_everything_else_is_applied() {
    let (edge, circuits) = serving_many(150, |_| {}).await;
    lose(&edge, &circuits[..101]).await;
    edge.publish(&by_host("new", vec![])).await;
    edge.wait_applied().await;
    assert_eq!(wait_stale(&edge, "mass_removal").await["held_back"], 101);
    assert_eq!(edge.metric("appproxy_edge_circuits").await, 151.0);
    assert_eq!(edge.metric("appproxy_edge_circuits_held_back").await, 101.0);
    assert_eq!(edge.get("lab-0.apps.test", "/").await.status(), 503);
    // The registry asks no more of the edge than what it does by itself: the circuits are named again.
    for circuit in &circuits[..101] {
        edge.publish(circuit).await;
    }
    wait_fresh(&edge).await;
    assert_eq!(edge.metric("appproxy_edge_circuits").await, 151.0);
}

#[tokio::test]
async fn missing_circuits_go_once_they_are_few_enough_because_others_were_closed() {
    let (edge, circuits) = serving_many(150, |_| {}).await;
    lose(&edge, &circuits).await;
    assert_eq!(wait_stale(&edge, "mass_removal").await["held_back"], 150);
    for circuit in &circuits[..50] {
        edge.publish_closed(circuit).await;
    }
    edge.wait_applied().await;
    wait_fresh(&edge).await;
    assert_eq!(edge.metric("appproxy_edge_circuits").await, 0.0);
}

#[tokio::test]
async fn any_number_of_closed_circuits_goes_at_once() {
    let (edge, circuits) = serving_many(150, |_| {}).await;
    edge.line.take_away();
    for circuit in &circuits {
        edge.publish_closed(circuit).await;
    }
    edge.line.bring_back();
    edge.wait_applied().await;
    wait_fresh(&edge).await;
    assert_eq!(edge.metric("appproxy_edge_circuits").await, 0.0);
}

#[tokio::test]
async fn missing_circuits_go_when_the_longest_time_is_over() {
    let (edge, circuits) = serving_many(150, |config| config.max_staleness_public = Duration::from_secs(3)).await;
    lose(&edge, &circuits).await;
    wait_stale(&edge, "mass_removal").await;
    assert_eq!(edge.metric("appproxy_edge_circuits").await, 150.0);
    wait_until("the removal", async || edge.metric("appproxy_edge_circuits").await == 0.0).await;
    wait_fresh(&edge).await;
}

#[tokio::test]
async fn a_missing_circuit_gives_its_address_to_another_at_once() {
    let (edge, mut circuits) = serving_many(149, |_| {}).await;
    let (origin, port) = (Origin::start("stranger").await, free_port());
    let old = by_port("old", port, vec![]);
    edge.serve(&old).await;
    circuits.push(old);
    lose(&edge, &circuits).await;
    wait_stale(&edge, "mass_removal").await;
    edge.serve(&by_port("next", port, vec![origin.target()])).await;
    let response = testkit::client::client().get(format!("http://{}/", at(port))).send().await.expect("served");
    assert_eq!(name_of(response).await, "stranger");
    assert_eq!(wait_stale(&edge, "mass_removal").await["held_back"], 149);
}

#[tokio::test]
async fn circuits_that_nobody_confirms_take_no_new_requests_and_keep_what_is_open() {
    let limit = Duration::from_millis(300);
    let edge = TestEdge::start_with(|config| config.max_staleness_private = limit).await;
    let (origin, port) = (Origin::start("lab").await, free_port());
    let (mut private, mut bound) = (by_host("private", vec![origin.target()]), by_port("bound", port, vec![]));
    private.access.public = false;
    bound.access.public = false;
    for circuit in [&private, &bound, &by_host("public", vec![origin.target()])] {
        edge.serve(circuit).await;
    }
    let key = SigningKey::from_seed([1; 32]);
    edge.accept_key(&key).await;
    let claims = Claims::of(TokenKind::Bearer, &private, i64::MAX);
    let token = key.sign(TokenKind::Bearer, &claims).expect("signs");
    let host = "private.apps.test";
    let opened = WebSocket::open_with_token(edge.address, host, "/ws", &token).await;
    let mut socket = opened.expect("upgraded");
    // Whoever shows nothing is told to, as long as the circuit is confirmed.
    let status = async || edge.get(host, "/").await.status().as_u16();
    assert_eq!(status().await, 401);
    edge.line.take_away();
    wait_until("the limit", async || status().await == 503).await;
    let response = edge.get("private.apps.test", "/").await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"] == "30"), (503, true));
    let problem: Value = response.json().await.expect("a problem");
    assert_eq!(problem["code"], "unconfirmed");
    assert!(is_served(&edge, "public").await);
    let at_port = testkit::client::client().get(format!("http://{}/", at(port))).send().await.expect("bound");
    assert!(at_port.text().await.expect("text").contains("unconfirmed"));
    assert_eq!(socket.echo("over the limit").await.as_deref(), Some("over the limit"));
    edge.line.bring_back();
    wait_until("the circuit again", async || status().await == 401).await;
    wait_fresh(&edge).await;
    assert_eq!(socket.echo("and back").await.as_deref(), Some("and back"));
}
