//! Tickets and tokens: what opens private circuits, and what ends it.

use std::time::Duration;

use entities::circuit::Circuit;
use entities::registry::Registry as _;
use entities::registry::layout::{CircuitState, Layout, decode_public_key};
use entities::token::{Claims, TokenError, TokenKind, verify};
use serde_json::{Value, json};

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, Ground, circuit, patient, port_circuit, signing_key};

/// The circuit as edges have it.
async fn published(ground: &Ground, key: &str) -> Circuit {
    let place = Layout::default().circuit(&key.parse().unwrap());
    let entry = ground.registry.get(&place).await.unwrap().0.unwrap();
    match CircuitState::decode(&entry.value).unwrap() {
        CircuitState::Open(versioned) => versioned.circuit,
        CircuitState::Closed { .. } => panic!("{key} is closed"),
    }
}

fn read(kind: TokenKind, token: &str) -> Claims {
    verify(kind, token.as_bytes(), &[signing_key().public()][..]).unwrap()
}

fn private(session: &str, service: &str) -> Value {
    let mut body = circuit(session, service);
    body["access"] = json!({"public": false, "user_id": "alice"});
    body
}

fn now_s(ground: &Ground) -> i64 {
    use entities::clock::Clock as _;
    ground.clock.now_ms() / 1_000
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_get_the_public_key_before_the_first_circuit() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.manager.post("/v2/circuits", private("s1", "app")).await.expect(201);
    let layout = Layout::default();
    let listing = coordinator.ground.registry.list(&layout.root()).await.unwrap();
    let public = signing_key().public();
    let key = listing.entries.iter().find(|entry| entry.key == layout.key(&public.id())).unwrap();
    assert_eq!(decode_public_key(&public.id(), &key.value).unwrap(), public);
    let first = listing
        .entries
        .iter()
        .filter(|entry| entry.key.starts_with(&layout.circuits()))
        .map(|entry| entry.revision)
        .min();
    assert!(Some(key.revision) < first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_a_link_of_the_circuit_that_works_for_a_minute() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.manager.post("/v2/circuits", private("s1", "app")).await.expect(201);
    let reply =
        coordinator.manager.post("/v2/circuits/s1:app/tickets", json!({"user": "alice", "redirect": "/lab?x=1"})).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let reply = reply.expect(201);
    let base = format!("{}.appproxy/ticket?t=", opened["url"].as_str().unwrap());
    let claims = read(TokenKind::Ticket, reply["url"].as_str().unwrap().strip_prefix(&base).unwrap());
    assert_eq!(claims.redirect.as_deref(), Some("/lab?x=1"));
    assert_eq!(claims.expires_at_s, now_s(&coordinator.ground) + 60);
    let circuit = published(&coordinator.ground, "s1:app").await;
    assert_eq!(claims.judge(circuit.id, circuit.access_generation, now_s(&coordinator.ground)), Ok(()));
    // Without a body it is for anybody and leads to the front page.
    let request = coordinator.manager.request("POST", "/v2/circuits/s1:app/tickets");
    coordinator.manager.send(request).await.expect(201);
    for (body, status, code) in [
        (json!({"user": "bob"}), 403, "other_user"),
        (json!({"redirect": "//evil.test"}), 400, "invalid_request"),
        (json!({"redirect": 7}), 400, "invalid_request"),
        (json!({"nonsense": 7}), 400, "invalid_request"),
    ] {
        coordinator.manager.post("/v2/circuits/s1:app/tickets", body).await.expect_problem(status, code);
    }
    coordinator.manager.post("/v2/circuits/s2:app/tickets", json!({})).await.expect_problem(404, "no_such_circuit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_as_long_as_was_asked() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.manager.post("/v2/circuits", private("s1", "app")).await.expect(201);
    let ask = async |body: Value| coordinator.manager.post("/v2/circuits/s1:app/tokens", body).await;
    for (body, life_s) in [(json!({}), 3_600), (json!({"expires_in_s": 5, "user": "alice"}), 5)] {
        let reply = ask(body).await;
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let claims = read(TokenKind::Bearer, reply.expect(201)["token"].as_str().unwrap());
        assert_eq!(claims.expires_at_s, now_s(&coordinator.ground) + life_s);
    }
    ask(json!({"expires_in_s": 0})).await.expect_problem(400, "invalid_request");
    ask(json!({"user": "bob"})).await.expect_problem(403, "other_user");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_ends_with_a_change_of_the_rules_a_revocation_and_the_circuit_and_with_nothing_else() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let manager = &coordinator.manager;
    manager.post("/v2/circuits", private("s1", "app")).await.expect(201);
    let token = async || {
        let reply = manager.post("/v2/circuits/s1:app/tokens", json!({})).await.expect(201);
        read(TokenKind::Bearer, reply["token"].as_str().unwrap())
    };
    let judge = async |claims: &Claims| {
        let circuit = published(&coordinator.ground, "s1:app").await;
        claims.judge(circuit.id, circuit.access_generation, now_s(&coordinator.ground))
    };
    let first = token().await;
    manager.patch("/v2/circuits/s1:app", json!({"labels": {"a": "b"}})).await.expect(200);
    manager.patch("/v2/circuits/s1:app", json!({"access": {"public": false, "user_id": "alice"}})).await.expect(200);
    assert_eq!(judge(&first).await, Ok(()));
    manager.patch("/v2/circuits/s1:app", json!({"access": {"public": false, "user_id": "bob"}})).await.expect(200);
    assert_eq!(judge(&first).await, Err(TokenError::Revoked));
    let second = token().await;
    assert_eq!(judge(&second).await, Ok(()));
    let revoked = manager.delete("/v2/circuits/s1:app/tokens").await.expect(200);
    assert_eq!(revoked["access"]["user_id"], "bob");
    assert_eq!(judge(&second).await, Err(TokenError::Revoked));
    let third = token().await;
    manager.delete("/v2/circuits/s1:app").await.expect(204);
    manager.post("/v2/circuits", private("s1", "app")).await.expect(201);
    assert_eq!(judge(&third).await, Err(TokenError::OtherCircuit));
    coordinator.ground.clock.advance(Duration::from_secs(1));
    manager.delete("/v2/circuits/s9:app/tokens").await.expect_problem(404, "no_such_circuit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_ticket_and_what_takes_none() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let url = coordinator.manager.post("/v2/circuits", circuit("s1", "open")).await.expect(201)["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let ticket =
        coordinator.manager.post("/v2/circuits/s1:open/tickets", json!({"redirect": "/lab"})).await.expect(201);
    assert_eq!(ticket, json!({"url": format!("{url}lab")}));
    let mut stream = port_circuit("s1", "ssh", None);
    stream["protocol"] = "ssh".into();
    stream["access"] = json!({"public": false});
    let refused = coordinator.manager.post("/v2/circuits", stream.clone()).await;
    refused.expect_problem(400, "invalid_request");
    assert_eq!(refused.body["errors"][0]["pointer"], "/access/allowed_clients");
    stream["access"]["allowed_clients"] = json!(["10.0.0.0/8", "192.0.2.7"]);
    let opened = coordinator.manager.post("/v2/circuits", stream).await.expect(201);
    assert_eq!(opened["access"]["allowed_clients"], json!(["10.0.0.0/8", "192.0.2.7/32"]));
    coordinator.manager.post("/v2/circuits/s1:ssh/tickets", json!({})).await.expect_problem(409, "not_http");
    coordinator.manager.post("/v2/circuits/s1:ssh/tokens", json!({})).await.expect_problem(409, "not_http");
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_for_everybody_and_private_ones_on_ports_come_with_a_warning() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let mut body = port_circuit("s1", "app", None);
    body["access"] = json!({"public": false});
    let codes = |reply: &Value| -> Vec<String> {
        let warnings = reply["warnings"].as_array().unwrap();
        warnings.iter().map(|warning| warning["code"].as_str().unwrap().to_owned()).collect()
    };
    let on_a_port = coordinator.manager.post("/v2/circuits", body).await.expect(201);
    assert_eq!(codes(&on_a_port), ["shared_cookies"]);
    let subdomain = coordinator.manager.post("/v2/circuits", private("s2", "app")).await.expect(201);
    assert!(codes(&subdomain).is_empty());
    let everybodys = coordinator.manager.post("/v2/circuits", circuit("s3", "app")).await.expect(201);
    assert_eq!(codes(&everybodys), ["public"]);
    // Whoever says nothing about it gets a private one.
    let mut body = circuit("s4", "app");
    body.as_object_mut().unwrap().remove("access");
    let silent = coordinator.manager.post("/v2/circuits", body).await.expect(201);
    assert_eq!(silent["access"], json!({"public": false}));
}
