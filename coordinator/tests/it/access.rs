//! Who may do what: every route is in the table, and every key is tried on every route.

use coordinator::config::api::ApiConfig;
use coordinator::store::DatabaseConfig;
use http::header;
use serde_json::{Value, json};
use testkit::clock::ManualClock;

use crate::fake_worker::{FakeWorker, main_authority};
use crate::harness::{Coordinator, Ground, MANAGER_KEY, READ_KEY, WORKER_KEY, circuit, keys, patient};

/// One that nobody has.
const WRONG_KEY: &str = "no-key-of-anybody";

/// Which keys a route takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Takes {
    Everybody,
    /// Readers, and everybody at an allowed address.
    Nearby,
    Reader,
    Manager,
    Worker,
}

/// Method, path, as the document writes it, and who may call.
pub(crate) const ROUTES: [(&str, &str, &str, Takes); 21] = [
    ("POST", "/v2/circuits", "/v2/circuits", Takes::Manager),
    ("GET", "/v2/circuits", "/v2/circuits", Takes::Reader),
    ("GET", "/v2/circuits/s1:app", "/v2/circuits/{circuit}", Takes::Reader),
    ("PATCH", "/v2/circuits/s1:app", "/v2/circuits/{circuit}", Takes::Manager),
    ("DELETE", "/v2/circuits/s1:app", "/v2/circuits/{circuit}", Takes::Manager),
    ("POST", "/v2/circuits/s1:app/tickets", "/v2/circuits/{circuit}/tickets", Takes::Manager),
    ("POST", "/v2/circuits/s1:app/tokens", "/v2/circuits/{circuit}/tokens", Takes::Manager),
    ("DELETE", "/v2/circuits/s1:app/tokens", "/v2/circuits/{circuit}/tokens", Takes::Manager),
    ("DELETE", "/v2/sessions/s1", "/v2/sessions/{session_id}", Takes::Manager),
    ("GET", "/v2/workers", "/v2/workers", Takes::Reader),
    ("GET", "/v2/workers/w1", "/v2/workers/{worker_id}", Takes::Reader),
    ("PUT", "/v2/workers/w1", "/v2/workers/{worker_id}", Takes::Worker),
    ("POST", "/v2/workers/w1/heartbeat", "/v2/workers/{worker_id}/heartbeat", Takes::Worker),
    ("DELETE", "/v2/workers/w1", "/v2/workers/{worker_id}", Takes::Worker),
    ("GET", "/v2/authorities", "/v2/authorities", Takes::Reader),
    ("GET", "/v2/openapi.json", "/v2/openapi.json", Takes::Everybody),
    ("GET", "/health", "/health", Takes::Everybody),
    ("GET", "/health/livez", "/health/livez", Takes::Everybody),
    ("GET", "/health/readyz", "/health/readyz", Takes::Everybody),
    ("GET", "/status", "/status", Takes::Nearby),
    ("GET", "/metrics", "/metrics", Takes::Nearby),
];

/// A body that does nothing, so that only the key decides.
fn body(method: &str) -> Option<Value> {
    matches!(method, "POST" | "PUT" | "PATCH").then(|| json!({}))
}

/// What a route says to a key: `None` if it takes it.
fn verdict(takes: Takes, key: Option<&str>, is_nearby: bool) -> Option<(u16, &'static str)> {
    let takes = match takes {
        Takes::Nearby if is_nearby => Takes::Everybody,
        Takes::Nearby => Takes::Reader,
        takes => takes,
    };
    let is_taken = match (takes, key) {
        (Takes::Everybody, _) => true,
        (_, None | Some(WRONG_KEY)) => return Some((401, "unauthorized")),
        (Takes::Reader, Some(key)) => [MANAGER_KEY, READ_KEY].contains(&key),
        (Takes::Manager, Some(key)) => key == MANAGER_KEY,
        (Takes::Worker, Some(key)) => key == WORKER_KEY,
        (Takes::Nearby, _) => unreachable!(),
    };
    (!is_taken).then_some((403, "wrong_scope"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_opens_its_own_routes_and_no_other() {
    for is_nearby in [true, false] {
        let metrics_allowed = if is_nearby { ApiConfig::loopback() } else { Vec::new() };
        let api = ApiConfig { metrics_allowed, ..ApiConfig::default() };
        let coordinator = Coordinator::start_api(Ground::new(), patient(), keys(), api).await;
        for (method, path, _, takes) in ROUTES {
            for key in [None, Some(WRONG_KEY), Some(MANAGER_KEY), Some(READ_KEY), Some(WORKER_KEY)] {
                let reply = coordinator.caller(key).call(method, path, body(method)).await;
                match verdict(takes, key, is_nearby) {
                    Some((status, code)) => reply.expect_problem(status, code),
                    None => {
                        let is_refused = [401, 403, 405].contains(&reply.status);
                        assert!(!is_refused, "{method} {path} {takes:?} with {key:?}: {}", reply.text);
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_changes_nothing_and_a_worker_sees_no_circuit() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    let before = coordinator.show("s1:app").await;
    let registration = serde_json::to_value(worker.registration()).unwrap();
    for key in [READ_KEY, WORKER_KEY] {
        let caller = coordinator.caller(Some(key));
        for reply in [
            caller.post("/v2/circuits", circuit("s2", "app")).await,
            caller.patch("/v2/circuits/s1:app", json!({"targets": []})).await,
            caller.delete("/v2/circuits/s1:app").await,
            caller.delete("/v2/sessions/s1").await,
        ] {
            reply.expect_problem(403, "wrong_scope");
        }
    }
    let reader = coordinator.caller(Some(READ_KEY));
    reader.put("/v2/workers/w2", registration).await.expect_problem(403, "wrong_scope");
    reader.delete("/v2/workers/w1").await.expect_problem(403, "wrong_scope");
    let worker = coordinator.caller(Some(WORKER_KEY));
    for path in ["/v2/circuits", "/v2/circuits/s1:app", "/v2/workers", "/v2/authorities"] {
        worker.get(path).await.expect_problem(403, "wrong_scope");
    }
    assert_eq!(coordinator.show("s1:app").await, before);
    assert_eq!(coordinator.manager.get("/v2/circuits").await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(coordinator.manager.get("/v2/workers").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_for_allowed_addresses_and_proxies_lend_theirs_to_nobody() {
    let behind = |trusted: &[&str], allowed: &[&str]| {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let (trusted_proxies, metrics_allowed) = (ranges(trusted), ranges(allowed));
        let api = ApiConfig { trusted_proxies, metrics_allowed, ..ApiConfig::default() };
        Coordinator::start_api(Ground::new(), patient(), keys(), api)
    };
    let ask = async |coordinator: &Coordinator, key, forwarded: Option<&str>| {
        let caller = coordinator.caller(key);
        let mut request = caller.request("GET", "/metrics");
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        caller.send(request).await.status
    };
    let plain = behind(&[], &["127.0.0.1", "::1"]).await;
    assert_eq!(ask(&plain, None, None).await, 200);
    // Somebody on this machine passes on what comes from anywhere.
    assert_eq!(ask(&plain, None, Some("127.0.0.1")).await, 401);
    assert_eq!(ask(&plain, Some(READ_KEY), Some("203.0.113.9")).await, 200);
    let proxied = behind(&["127.0.0.1"], &["10.1.0.0/16"]).await;
    assert_eq!(ask(&proxied, None, Some("10.1.2.3")).await, 200);
    assert_eq!(ask(&proxied, None, Some("10.1.2.3, 203.0.113.9")).await, 401);
    assert_eq!(ask(&proxied, None, None).await, 401);
    assert_eq!(ask(&proxied, Some(WORKER_KEY), None).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_known_key_only_health_metrics_and_the_document_answer() {
    const GUESS: &str = "manager-key-4f1";
    let coordinator = Coordinator::start(patient()).await;
    let nobody = coordinator.caller(None);
    for (method, path, _, takes) in ROUTES {
        let longer = format!("{MANAGER_KEY}x");
        let basic = format!("Basic {MANAGER_KEY}");
        let wrong = [None, Some(""), Some("Bearer"), Some("Bearer "), Some(basic.as_str()), Some(longer.as_str())];
        for authorization in wrong.into_iter().chain([Some("Bearer manager-key-4f1")]) {
            let mut request = nobody.request(method, path);
            if let Some(body) = body(method) {
                request = request.json(&body);
            }
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let reply = nobody.send(request).await;
            if [Takes::Everybody, Takes::Nearby].contains(&takes) {
                assert_eq!(reply.status, 200, "{method} {path}");
                continue;
            }
            reply.expect_problem(401, "unauthorized");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
            assert!(!reply.text.contains(GUESS), "the answer repeats the guess");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_of_backend_ai_is_as_good_as_a_bearer() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let nobody = coordinator.caller(None);
    let with = |key: &str| nobody.request("POST", "/v2/circuits").header("X-BackendAI-Token", key);
    nobody.send(with(READ_KEY).json(&circuit("s1", "app"))).await.expect_problem(403, "wrong_scope");
    nobody.send(with("wrong").json(&circuit("s1", "app"))).await.expect_problem(401, "unauthorized");
    nobody.send(with(MANAGER_KEY).json(&circuit("s1", "app"))).await.expect(201);
    let both = with("wrong").header(header::AUTHORIZATION, format!("bearer {MANAGER_KEY}")).json(&circuit("s1", "app"));
    nobody.send(both).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_problem_too() {
    let coordinator = Coordinator::start(patient()).await;
    for path in ["/", "/v2", "/v2/circuit", "/v2/circuits/s1:app/more", "/v1/circuits", "/v2/circuits//", "/health/x"] {
        coordinator.manager.get(path).await.expect_problem(404, "not_found");
    }
    for (method, path) in [
        ("PUT", "/v2/circuits"),
        ("DELETE", "/v2/circuits"),
        ("POST", "/v2/circuits/s1:app"),
        ("GET", "/v2/sessions/s1"),
        ("POST", "/v2/workers"),
        ("GET", "/v2/workers/w1/heartbeat"),
        ("POST", "/metrics"),
    ] {
        coordinator.manager.call(method, path, None).await.expect_problem(405, "method_not_allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_document_is_in_the_table() {
    let coordinator = Coordinator::start(patient()).await;
    let document = coordinator.manager.get("/v2/openapi.json").await.expect(200);
    let mut documented = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let is_public = operation["security"] == json!([{}]);
            documented.push((method.to_uppercase(), path.clone(), is_public));
        }
    }
    let mut known: Vec<(String, String, bool)> = ROUTES
        .into_iter()
        .map(|(method, _, path, takes)| (method.to_owned(), path.to_owned(), takes == Takes::Everybody))
        .collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_errors_nor_debug_output_tell_a_key() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::start(&coordinator.ground, "w1", main_authority("40000-40099")).await;
    // Each answer is looked at by `Caller::send`; these are the ones nearest to a key.
    coordinator.caller(Some(WORKER_KEY)).get("/v2/circuits").await.expect_problem(403, "wrong_scope");
    worker.register(&coordinator).await.expect(204);
    coordinator.manager.get("/v2/workers").await.expect(200);
    coordinator.manager.get("/metrics").await;
    let config = coordinator::config::Config {
        database: DatabaseConfig::own("postgres://user:database-password@host/name"),
        keys: keys(),
        signing_keys: crate::harness::signing_keys(),
        api: ApiConfig::default(),
        timing: patient(),
    };
    let clock = ManualClock::at_ms(0);
    let text = format!("{config:?} {clock:?}");
    for key in [MANAGER_KEY, READ_KEY, WORKER_KEY, "database-password"] {
        assert!(!text.contains(key), "{text}");
    }
}
