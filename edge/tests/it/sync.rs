//! Following the registry.

use entities::circuit::Circuit;
use entities::ids::{Epoch, Generation, Revision};
use entities::registry::Registry as _;
use testkit::origin::Origin;
use testkit::wait::wait_until;

use crate::harness::{TestEdge, by_host, name_of};

#[tokio::test]
async fn an_incomplete_registry_keeps_the_edge_unready_and_its_table_empty() {
    let edge = TestEdge::start_incomplete(|_| {}).await;
    let origin = Origin::start("lab").await;
    edge.publish(&by_host("lab", vec![origin.target()])).await;
    edge.put_meta(edge.epoch, false).await;
    let query = format!("/v2/sync?epoch={}&revision=0&timeout_ms=300", edge.epoch);
    let report = edge.sync(&query).await;
    assert_eq!((report.epoch, report.applied), (None, Revision(0)));
    for path in ["/health", "/health/readyz"] {
        assert_eq!(edge.get("127.0.0.1", path).await.status(), 503, "{path}");
    }
    assert_eq!(edge.get("127.0.0.1", "/health/livez").await.status(), 200);
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 404);

    edge.put_meta(edge.epoch, true).await;
    edge.wait_applied().await;
    assert_eq!(edge.get("127.0.0.1", "/health/readyz").await.status(), 200);
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
}

#[tokio::test]
async fn sync_without_parameters_answers_at_once_and_with_them_at_the_latest_in_time() {
    let edge = TestEdge::start().await;
    let report = edge.sync("/v2/sync").await;
    assert_eq!((report.worker_id.as_str(), report.epoch), ("w1", Some(edge.epoch)));
    let late = edge.sync(&format!("/v2/sync?epoch={}&revision=999&timeout_ms=50", edge.epoch)).await;
    assert!(late.applied < Revision(999));
    let other = edge.sync(&format!("/v2/sync?epoch={}&revision=0&timeout_ms=50", Epoch::random())).await;
    assert_eq!(other.epoch, Some(edge.epoch));
    assert_eq!(edge.get("127.0.0.1", "/v2/sync?epoch=x").await.status(), 401);
}

#[tokio::test]
async fn values_that_cannot_be_read_are_skipped_and_what_stands_stays() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let circuit = by_host("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let key = edge.layout.circuit(&circuit.key);
    edge.put(&key, b"{".to_vec()).await;
    edge.put(&format!("{}x:y", edge.layout.circuits()), br#"{"schema":9,"generation":1}"#.to_vec()).await;
    edge.put(&format!("{}no key", edge.layout.circuits()), b"{".to_vec()).await;
    edge.wait_applied().await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
    edge.registry.end_watches();
    edge.serve(&by_host("next", vec![])).await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
    let skipped = |reason: &str| format!("appproxy_edge_registry_values_skipped_total{{reason=\"{reason}\"}}");
    assert!(edge.metric(&skipped("malformed")).await >= 1.0);
    assert!(edge.metric(&skipped("unknown_schema")).await >= 1.0);
}

#[tokio::test]
async fn an_older_generation_is_ignored() {
    let (edge, old, new) = (TestEdge::start().await, Origin::start("old").await, Origin::start("new").await);
    let mut circuit = by_host("lab", vec![new.target()]);
    edge.publish_as(&circuit, Generation(5)).await;
    edge.wait_applied().await;
    circuit.targets = vec![old.target()];
    edge.publish_as(&circuit, Generation(4)).await;
    edge.wait_applied().await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "new");
}

#[tokio::test]
async fn a_value_that_names_another_circuit_is_skipped() {
    let edge = TestEdge::start().await;
    let circuit = by_host("lab", vec![]);
    edge.serve(&circuit).await;
    let (entry, _) = edge.registry.get(&edge.layout.circuit(&circuit.key)).await.expect("in memory");
    let value = entry.expect("published").value;
    edge.put(&edge.layout.circuit(&"thief:web".parse().expect("valid")), value).await;
    let report = edge.wait_applied().await;
    assert!(report.refused.is_empty());
    assert_eq!(edge.metric("appproxy_edge_registry_values_skipped_total{reason=\"other_key\"}").await, 1.0);
}

#[tokio::test]
async fn circuits_of_other_authorities_are_not_served() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let mut circuit = by_host("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    circuit.authority = "elsewhere".parse().expect("valid");
    edge.serve(&circuit).await;
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 404);
    assert_eq!(edge.metric("appproxy_edge_circuits").await, 0.0);
}

#[tokio::test]
async fn what_was_missed_while_no_watch_lived_comes_with_the_next_list() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let gone = by_host("gone", vec![origin.target()]);
    edge.serve(&gone).await;
    let before = edge.metric("appproxy_edge_registry_relists_total").await;
    edge.registry.end_watches();
    edge.close(&gone).await;
    edge.serve(&by_host("new", vec![origin.target()])).await;
    assert_eq!(edge.get("gone.apps.test", "/").await.status(), 404);
    assert_eq!(name_of(edge.get("new.apps.test", "/").await).await, "lab");
    assert!(edge.metric("appproxy_edge_registry_relists_total").await > before);
}

#[tokio::test]
async fn a_deleted_key_is_not_served_any_more() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let circuit = by_host("lab", vec![origin.target()]);
    let revision = edge.publish(&circuit).await;
    edge.wait_applied().await;
    edge.registry.delete(&edge.layout.circuit(&circuit.key), revision).await.expect("in memory");
    edge.wait_applied().await;
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 404);
}

#[tokio::test]
async fn a_new_epoch_voids_what_was_applied_and_keeps_what_is_served() {
    let (mut edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let old = edge.epoch;
    let new = Epoch::random();
    edge.put_meta(new, false).await;
    let voided = || async { edge.sync("/v2/sync").await.epoch.is_none() };
    wait_until("the old epoch to be void", voided).await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
    assert_eq!(edge.get("127.0.0.1", "/health/readyz").await.status(), 200);
    edge.put_meta(new, true).await;
    edge.epoch = new;
    assert_ne!(edge.wait_applied().await.epoch, Some(old));
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
}

#[tokio::test]
async fn a_thousand_circuits_are_applied_together() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    for number in 0..1_000 {
        edge.publish(&by_host(&format!("lab-{number}"), vec![origin.target()])).await;
    }
    edge.wait_applied().await;
    assert_eq!(edge.metric("appproxy_edge_circuits").await, 1_000.0);
    for number in [0, 499, 500, 999] {
        assert_eq!(name_of(edge.get(&format!("lab-{number}.apps.test"), "/").await).await, "lab");
    }
}

#[tokio::test]
async fn a_list_touches_what_has_changed_since_the_last_one_and_nothing_else() {
    let edge = TestEdge::start().await;
    let circuits: Vec<Circuit> = (0..300).map(|index| by_host(&format!("app-{index}"), vec![])).collect();
    for circuit in &circuits {
        edge.publish(circuit).await;
    }
    edge.wait_applied().await;
    let count = async |name: &str| edge.metric(name).await;
    let touched = count("appproxy_edge_circuits_touched_total").await;
    assert_eq!(touched, 300.0);
    let (lists, events) =
        (count("appproxy_edge_registry_relists_total").await, count("appproxy_edge_events_applied_total").await);

    edge.line.take_away();
    for circuit in &circuits[..4] {
        edge.publish(circuit).await;
    }
    for circuit in &circuits[4..7] {
        edge.publish_closed(circuit).await;
    }
    for index in 300..303 {
        edge.publish(&by_host(&format!("app-{index}"), vec![])).await;
    }
    edge.line.bring_back();
    edge.wait_applied().await;
    assert_eq!(count("appproxy_edge_events_applied_total").await, events, "no watch brought them");
    assert!(count("appproxy_edge_registry_relists_total").await > lists);
    assert_eq!(count("appproxy_edge_circuits_touched_total").await - touched, 10.0);
}
