//! Files under version control that programs rely on: the OpenAPI document and the list of metrics.

use serde_json::Value;

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, WORKER_KEY, circuit, patient};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

fn document() -> Value {
    serde_json::from_str(&coordinator::openapi_document().unwrap()).unwrap()
}

fn schema(name: &str) -> Value {
    document()["components"]["schemas"][name].clone()
}

#[test]
fn the_openapi_document_is_the_committed_one() {
    let made = coordinator::openapi_document().unwrap();
    if std::env::var_os("UPDATE_CONTRACTS").is_some() {
        std::fs::write(COMMITTED, &made).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    let differing = made.lines().zip(committed.lines()).position(|(made, committed)| made != committed);
    assert!(
        made == committed,
        "coordinator/openapi.json is not what the code says (line {:?}); if the change of the API is meant, run \
         `UPDATE_CONTRACTS=1 cargo test -p coordinator --test it contracts` and commit the file",
        differing.map_or(made.lines().count().min(committed.lines().count()) + 1, |index| index + 1),
    );
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for field in ["summary", "tags", "responses"] {
                assert!(!operation[field].is_null(), "{method} {path} has no {field}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_document_are_accepted_and_show_every_field() {
    let coordinator = Coordinator::start(patient()).await;
    let example = |name: &str, left_out: &[&str]| {
        let schema = schema(name);
        let example = schema["example"].clone();
        for field in schema["properties"].as_object().unwrap().keys() {
            let is_shown = example.get(field).is_some() || left_out.contains(&field.as_str());
            assert!(is_shown, "the example of {name} leaves {field} out");
        }
        example
    };
    let edge = coordinator.caller(Some(WORKER_KEY));
    edge.put("/v2/workers/example", example("RegisterWorker", &[])).await.expect(204);
    edge.post("/v2/workers/example/heartbeat", example("WorkerHeartbeat", &[])).await.expect(204);
    edge.delete("/v2/workers/example").await.expect(204);

    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(example("OpenCircuit", &["endpoint_id"])).await;
    let path = format!("/v2/circuits/{}", opened["id"].as_str().unwrap());
    coordinator.manager.patch(&path, example("ChangeCircuit", &[])).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_fields_that_the_document_names() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(circuit("s1", "app")).await;
    let worker = coordinator.manager.get("/v2/workers/w1").await.expect(200);
    let authorities = coordinator.manager.get("/v2/authorities").await.expect(200);
    let problem = coordinator.manager.post("/v2/circuits", Value::Null).await.expect(400);
    for (name, answer) in [
        ("CircuitView", &opened),
        ("AppliedView", &opened["applied"]),
        ("TargetView", &opened["targets"][0]),
        ("WarningView", &opened["warnings"][0]),
        ("WorkerView", &worker),
        ("AuthorityView", &authorities["items"][0]),
        ("PortsView", &authorities["items"][0]["ports"]),
        ("Problem", &problem),
        ("FaultView", &problem["errors"][0]),
        ("StatusView", &coordinator.manager.get("/status").await.expect(200)),
        ("HealthView", &coordinator.manager.get("/health").await.expect(200)),
    ] {
        let schema = schema(name);
        let properties = schema["properties"].as_object().unwrap();
        for field in answer.as_object().unwrap().keys() {
            assert!(properties.contains_key(field), "{name} does not name {field}");
        }
        for field in schema["required"].as_array().unwrap() {
            assert!(answer.get(field.as_str().unwrap()).is_some(), "{name} promises {field}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_done() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let reply = coordinator.manager.get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let refused = coordinator.metric("appproxy_coordinator_requests_total{code_class=\"4xx\"}").await;
    coordinator.open(circuit("s1", "app")).await;
    coordinator.open(circuit("s1", "web")).await;
    coordinator.manager.get("/v2/nothing").await.expect(404);
    coordinator.manager.delete("/v2/circuits/s1:app").await.expect(204);
    for (name, wanted) in [
        ("circuits_opened_total", 2),
        ("circuits_closed_total", 1),
        ("requests_total{code_class=\"4xx\"}", refused + 1),
        ("apply_wait_seconds_count", 2),
        ("workers{status=\"LOST\"}", 0),
    ] {
        assert_eq!(coordinator.metric(&format!("appproxy_coordinator_{name}")).await, wanted, "{name}");
    }
    testkit::wait::wait_until("one worker ALIVE", async || {
        coordinator.metric("appproxy_coordinator_workers{status=\"ALIVE\"}").await == 1
    })
    .await;
}
