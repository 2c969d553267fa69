//! Listing: a filter that is not understood never means "everything", and pages lose nothing.

use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, authority};
use crate::harness::{Coordinator, circuit, patient, port_circuit};

fn keys(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|circuit| circuit["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_and_can_be_joined() {
    let coordinator = Coordinator::start(patient()).await;
    let _names = FakeWorker::join_at(&coordinator, "w1", authority("main", Some("apps.test"), None)).await;
    let _ports = FakeWorker::join_at(&coordinator, "w2", authority("other", None, Some("41000-41009"))).await;
    coordinator.open(circuit("s1", "jupyter")).await;
    coordinator.open(port_circuit("s1", "tensorboard", None)).await;
    coordinator.open(port_circuit("s2", "jupyter", None)).await;
    coordinator.open(json!({"session_id": "s3", "service": "vscode", "targets": []})).await;
    for (query, wanted) in [
        ("", &["s1:jupyter", "s1:tensorboard", "s2:jupyter", "s3:vscode"][..]),
        ("?session_id=s1", &["s1:jupyter", "s1:tensorboard"]),
        ("?service=jupyter", &["s1:jupyter", "s2:jupyter"]),
        ("?status=UNHEALTHY", &["s3:vscode"]),
        ("?status=HEALTHY", &["s1:jupyter", "s1:tensorboard", "s2:jupyter"]),
        ("?status=PENDING", &[]),
        ("?authority=other", &["s1:tensorboard", "s2:jupyter"]),
        ("?authority=other&service=jupyter&session_id=s2&status=HEALTHY", &["s2:jupyter"]),
        ("?authority=main&session_id=s2", &[]),
    ] {
        let page = coordinator.manager.get(&format!("/v2/circuits{query}")).await.expect(200);
        assert_eq!(keys(&page), wanted, "{query}");
        assert_eq!(page["next_cursor"], Value::Null, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_give_each_circuit_exactly_once() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let mut wanted = Vec::new();
    for index in 0..7 {
        let opened = coordinator.open(circuit("s1", &format!("app-{index}"))).await;
        wanted.push(opened["key"].as_str().unwrap().to_owned());
    }
    // A last page that is full, one that is not, and one page for all.
    for (limit, sizes) in [(1, vec![1; 7]), (3, vec![3, 3, 1]), (7, vec![7]), (100, vec![7])] {
        let mut found = Vec::new();
        let mut found_sizes = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = coordinator.manager.get(&format!("/v2/circuits?limit={limit}{cursor}")).await.expect(200);
            found_sizes.push(keys(&page).len());
            found.extend(keys(&page));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, wanted, "limit {limit}");
        assert_eq!(found_sizes, sizes, "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_not_understood_is_refused() {
    let coordinator = Coordinator::start(patient()).await;
    for (query, pointer, code) in [
        ("session=s1", "?session", "unknown_field"),
        ("session_id=s1&session_id=s2", "?session_id", "duplicate"),
        ("session_id=", "?session_id", "invalid"),
        ("service=Jupyter", "?service", "invalid"),
        ("status=healthy", "?status", "invalid"),
        ("limit=0", "?limit", "invalid"),
        ("limit=1001", "?limit", "invalid"),
        ("limit=ten", "?limit", "invalid"),
    ] {
        let reply = coordinator.manager.get(&format!("/v2/circuits?{query}")).await;
        reply.expect_problem(400, "invalid_request");
        assert!(reply.faults().contains(&(pointer, code)), "{query}: {:?}", reply.faults());
    }
    let reply = coordinator.manager.get("/v2/circuits?idle_for_s=60").await;
    reply.expect_problem(400, "not_supported");
    assert_eq!(reply.faults(), [("?idle_for_s", "not_supported")]);
}
