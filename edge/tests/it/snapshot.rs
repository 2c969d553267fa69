//! What a restart keeps while the registry is away, and what it must not bring back.

use std::path::Path;
use std::time::Duration;

use edge::Config;
use entities::ids::{Epoch, InstallationId};
use entities::registry::memory::MemoryRegistry;
use serde_json::Value;
use tempfile::TempDir;
use testkit::clock::ManualClock;
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::wait::wait_until;

use crate::harness::{TestEdge, at, by_host, by_port, name_of};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn with(folder: &Path) -> impl FnOnce(&mut Config) + use<> {
    let folder = folder.to_owned();
    move |config| config.data_dir = Some(folder)
}

async fn wait_ready(edge: &TestEdge) {
    wait_until("readiness", async || edge.get("127.0.0.1", "/health/readyz").await.status() == 200).await;
}

async fn status(edge: &TestEdge, name: &str) -> u16 {
    edge.get(&format!("{name}.apps.test"), "/").await.status().as_u16()
}

#[tokio::test]
async fn a_restart_without_a_registry_serves_from_the_snapshot_ready_and_stale() {
    let (folder, origin, port) = (folder(), Origin::start("lab").await, free_port());
    let edge = TestEdge::start_with(with(folder.path())).await;
    let (lab, ended) = (by_host("lab", vec![origin.target()]), by_host("ended", vec![origin.target()]));
    edge.serve(&lab).await;
    edge.serve(&by_port("port", port, vec![origin.target()])).await;
    edge.serve(&ended).await;
    edge.close(&ended).await;
    edge.line.take_away();
    let edge = edge.restart(with(folder.path())).await;
    wait_ready(&edge).await;
    assert_eq!(edge.stale().await["reason"], "unreachable");
    assert_eq!((status(&edge, "lab").await, status(&edge, "ended").await), (200, 404));
    let by_number = testkit::client::client().get(format!("http://{}/", at(port))).send().await.expect("bound");
    assert_eq!(name_of(by_number).await, "lab");
    let report = edge.sync("/v2/sync").await;
    assert_eq!((report.epoch, report.applied.0), (None, 0), "applied never comes from disk");
    edge.line.bring_back();
    edge.wait_applied().await;
    assert!(edge.stale().await.is_null());
}

#[tokio::test]
async fn a_restart_with_a_registry_serves_nothing_that_was_closed_meanwhile() {
    let (folder, origin) = (folder(), Origin::start("lab").await);
    let edge = TestEdge::start_with(with(folder.path())).await;
    let (lab, ended) = (by_host("lab", vec![origin.target()]), by_host("ended", vec![origin.target()]));
    edge.serve(&lab).await;
    edge.serve(&ended).await;
    edge.line.take_away();
    edge.publish_closed(&ended).await;
    let (line, with_folder) = (edge.line.clone(), with(folder.path()));
    let edge = edge
        .restart(move |config| {
            with_folder(config);
            line.bring_back();
            line.silence();
        })
        .await;
    // Not even while there is no list yet.
    assert_eq!(edge.get("127.0.0.1", "/health/readyz").await.status(), 503);
    assert_eq!(status(&edge, "ended").await, 404);
    edge.line.bring_back();
    edge.wait_applied().await;
    assert_eq!((status(&edge, "lab").await, status(&edge, "ended").await), (200, 404));
    // Nor after the next restart: the snapshot has forgotten it.
    edge.line.take_away();
    let edge = edge.restart(with(folder.path())).await;
    wait_ready(&edge).await;
    assert_eq!((status(&edge, "lab").await, status(&edge, "ended").await), (200, 404));
}

#[tokio::test]
async fn a_restart_before_a_wiped_or_strange_registry_serves_from_the_snapshot() {
    let (folder, origin) = (folder(), Origin::start("lab").await);
    let mut edge = TestEdge::start_with(with(folder.path())).await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.exchange_registry(MemoryRegistry::new());
    let mut edge = edge.restart(with(folder.path())).await;
    wait_ready(&edge).await;
    assert_eq!(edge.stale().await["reason"], "incomplete");
    assert_eq!(status(&edge, "lab").await, 200);
    edge.installation_id = InstallationId::random();
    edge.put_meta(Epoch::random(), true).await;
    let edge = edge.restart(with(folder.path())).await;
    wait_ready(&edge).await;
    assert_eq!(edge.stale().await["reason"], "other_installation");
    assert_eq!(status(&edge, "lab").await, 200);
}

#[tokio::test]
async fn a_first_list_that_misses_too_much_does_not_take_the_snapshots_circuits_away() {
    let folder = folder();
    let edge = TestEdge::start_with(with(folder.path())).await;
    let circuits: Vec<_> = (0..150).map(|number| by_host(&format!("lab-{number}"), vec![])).collect();
    for circuit in &circuits {
        edge.publish(circuit).await;
    }
    edge.wait_applied().await;
    edge.line.take_away();
    for circuit in &circuits[..120] {
        edge.delete(circuit).await;
    }
    let (line, with_folder) = (edge.line.clone(), with(folder.path()));
    let edge = edge
        .restart(move |config| {
            with_folder(config);
            line.bring_back();
        })
        .await;
    edge.wait_applied().await;
    wait_until("the mass removal", async || edge.stale().await["reason"] == "mass_removal").await;
    assert_eq!((status(&edge, "lab-0").await, status(&edge, "lab-149").await), (503, 503));
    assert_eq!(edge.metric("appproxy_edge_circuits_held_back").await, 120.0);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_at_all_is_not_waited_for() {
    let (folder, origin) = (folder(), Origin::start("lab").await);
    let edge = TestEdge::start_with(with(folder.path())).await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.line.silence();
    let edge = edge.restart(with(folder.path())).await;
    assert_eq!(edge.get("127.0.0.1", "/health/readyz").await.status(), 503);
    wait_ready(&edge).await;
    assert_eq!(edge.stale().await["reason"], "unreachable");
    assert_eq!(status(&edge, "lab").await, 200);
    edge.line.bring_back();
    edge.wait_applied().await;
    assert!(edge.stale().await.is_null());
}

#[tokio::test]
async fn a_snapshot_that_is_too_old_is_kept_but_takes_no_requests_until_it_is_confirmed() {
    let (folder, origin) = (folder(), Origin::start("lab").await);
    let clock = ManualClock::at_ms(1_800_000_000_000);
    let with_clock = || {
        let (folder, clock) = (folder.path().to_owned(), clock.clone());
        move |config: &mut Config| {
            config.data_dir = Some(folder);
            config.clock = std::sync::Arc::new(clock);
        }
    };
    let edge = TestEdge::start_with(with_clock()).await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.line.take_away();
    wait_until("the loss", async || !edge.stale().await.is_null()).await;
    clock.advance(Duration::from_secs(23 * 3600));
    let edge = edge.restart(with_clock()).await;
    wait_ready(&edge).await;
    assert_eq!(status(&edge, "lab").await, 200);
    clock.advance(Duration::from_secs(2 * 3600));
    let edge = edge.restart(with_clock()).await;
    wait_ready(&edge).await;
    let response = edge.get("lab.apps.test", "/").await;
    assert_eq!(response.status(), 503);
    assert!(response.text().await.expect("text").contains("unconfirmed"));
    edge.line.bring_back();
    edge.wait_applied().await;
    wait_until("the circuit again", async || status(&edge, "lab").await == 200).await;
}

/// The copy is what a killed process leaves behind.
#[tokio::test]
async fn what_an_edge_serves_is_on_disk_before_it_is_killed() {
    let (folder, copy, origin) = (folder(), folder(), Origin::start("lab").await);
    let edge = TestEdge::start_with(with(folder.path())).await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let file = |folder: &TempDir| folder.path().join("circuits.snapshot");
    let holds_it = || std::fs::read(file(&folder)).is_ok_and(|bytes| bytes.windows(7).any(|word| word == b"lab:web"));
    wait_until("the change on disk", async || holds_it()).await;
    wait_until("its record to be whole", async || edge.metric("appproxy_edge_snapshot_bytes").await > 400.0).await;
    std::fs::copy(file(&folder), file(&copy)).expect("copied");
    edge.line.take_away();
    let edge = edge.restart(with(copy.path())).await;
    wait_ready(&edge).await;
    let status_now: Value = edge.get("127.0.0.1", "/status").await.json().await.expect("JSON");
    assert!(status_now["snapshot"]["bytes"].as_u64().is_some_and(|bytes| bytes > 100), "{status_now}");
    assert_eq!(status(&edge, "lab").await, 200);
}
