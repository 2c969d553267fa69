//! Who changed what is in the log, and no key is.

use std::io::Write;
use std::sync::{Arc, Mutex};

use coordinator::config::api::ApiConfig;
use coordinator::keys::{ApiKey, Scope};
use serde_json::{Value, json};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, Ground, MANAGER_KEY, READ_KEY, WORKER_KEY, circuit, patient};

/// What was logged on this thread, where all tasks of a test without `multi_thread` run.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture(level: LevelFilter) -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().json().with_max_level(level).with_writer(log.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The fields of each line of the audit log.
    fn changes(&self) -> Vec<Value> {
        let lines: Vec<Value> = self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of_audit = lines.into_iter().filter(|line| line["target"] == "audit");
        of_audit.map(|line| line["fields"].clone()).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn each_change_leaves_one_line_that_says_who_what_and_from_where() {
    let (log, _guard) = Log::capture(LevelFilter::INFO);
    let keys = vec![
        ApiKey::new(MANAGER_KEY, Scope::Manager).named("ops-1"),
        ApiKey::new(READ_KEY, Scope::Read),
        ApiKey::new(WORKER_KEY, Scope::Worker { authorities: Vec::new() }),
    ];
    let api = ApiConfig { trusted_proxies: vec!["127.0.0.1".parse().unwrap()], ..ApiConfig::default() };
    let coordinator = Coordinator::start_api(Ground::new(), patient(), keys, api).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    worker.heartbeat(&coordinator).await.expect(204);
    let manager = &coordinator.manager;
    let opening = manager.request("POST", "/v2/circuits").json(&circuit("s1", "app"));
    let opening = opening.header("x-forwarded-for", "203.0.113.9").header("x-request-id", "my-id-1");
    manager.send(opening).await.expect(201);
    manager.patch("/v2/circuits/s1:app", json!({"labels": {"team": "atlas"}})).await.expect(200);
    manager.post("/v2/circuits", circuit("s1", "web")).await.expect(201);
    manager.delete("/v2/circuits/s1:app").await.expect(204);
    manager.delete("/v2/circuits/s9:app").await.expect_problem(404, "no_such_circuit");
    manager.delete("/v2/sessions/s1").await.expect(204);
    worker.leave(&coordinator).await.expect(204);
    // Neither looking nor what was refused is a change.
    manager.get("/v2/circuits").await.expect(200);
    manager.post("/v2/circuits", json!({})).await.expect(400);
    coordinator.caller(Some(READ_KEY)).delete("/v2/sessions/s1").await.expect(403);

    let changes = log.changes();
    let told: Vec<String> = changes
        .iter()
        .map(|change| {
            let field = |name: &str| change[name].to_string().trim_matches('"').to_owned();
            ["scope", "method", "route", "path", "circuit", "generation", "closed", "status", "code"]
                .map(field)
                .join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "worker PUT /v2/workers/{worker_id} /v2/workers/w1 null null null 204 null",
            "manager POST /v2/circuits /v2/circuits s1:app 1 null 201 null",
            "manager PATCH /v2/circuits/{circuit} /v2/circuits/s1:app s1:app 2 null 200 null",
            "manager POST /v2/circuits /v2/circuits s1:web 1 null 201 null",
            "manager DELETE /v2/circuits/{circuit} /v2/circuits/s1:app null null 1 204 null",
            "manager DELETE /v2/circuits/{circuit} /v2/circuits/s9:app null null null 404 no_such_circuit",
            "manager DELETE /v2/sessions/{session_id} /v2/sessions/s1 null null 1 204 null",
            "worker DELETE /v2/workers/{worker_id} /v2/workers/w1 null null null 204 null",
        ]
    );
    assert_eq!((&changes[1]["key"], &changes[1]["request_id"]), (&json!("ops-1"), &json!("my-id-1")));
    assert_eq!((&changes[1]["peer"], &changes[1]["client"]), (&json!("127.0.0.1"), &json!("203.0.113.9")));
    let fingerprint = changes[0]["key"].as_str().unwrap();
    assert!(fingerprint.starts_with("sha256:") && fingerprint.len() == 15, "{fingerprint}");
    // What happens deeper down is found by the same id.
    let is_opening = |line: &&str| line.contains("my-id-1") && line.contains("circuit opened");
    assert!(log.text().lines().any(|line| is_opening(&line)), "{}", log.text());
    assert!(log.text().lines().any(|line| line.contains("turned away") && line.contains("wrong_scope")));
}

#[tokio::test]
async fn a_change_whose_caller_has_gone_is_in_the_log_all_the_same() {
    let (log, _guard) = Log::capture(LevelFilter::INFO);
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    let held_at = worker.hold().await;
    let call = tokio::spawn({
        let manager = coordinator.manager.clone();
        async move { manager.post("/v2/circuits", circuit("s1", "app")).await }
    });
    worker.is_asked_beyond(held_at).await;
    call.abort();
    worker.release();
    testkit::wait::wait_until("the line", async || {
        log.changes().iter().any(|change| change["circuit"] == "s1:app" && change["status"] == 201)
    })
    .await;
}

#[tokio::test]
async fn no_key_is_logged_however_much_is() {
    const GUESS: &str = "a-guess-at-a-key-17";
    let (log, _guard) = Log::capture(LevelFilter::TRACE);
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
    for (method, path, _, _) in crate::access::ROUTES {
        for key in [MANAGER_KEY, READ_KEY, WORKER_KEY, GUESS] {
            let caller = coordinator.caller(None);
            let body = matches!(method, "POST" | "PUT" | "PATCH").then(|| json!({}));
            for name in ["authorization", "x-backendai-token"] {
                let value = if name == "authorization" { format!("Bearer {key}") } else { key.to_owned() };
                let mut request = caller.request(method, path).header(name, value);
                if let Some(body) = &body {
                    request = request.json(body);
                }
                caller.send(request).await;
            }
        }
    }
    worker.heartbeat(&coordinator).await.expect_problem(404, "no_such_worker");
    let text = log.text();
    assert!(text.contains("TRACE") && text.contains("turned away"), "the log was not captured");
    for key in [MANAGER_KEY, READ_KEY, WORKER_KEY, GUESS] {
        let line = text.lines().find(|line| line.contains(key));
        assert_eq!(line, None, "{key}");
    }
}
