//! What callers may take: connections, requests, bytes and time. Slow and greedy ones are turned away, the others are not
//! disturbed.

use std::time::Duration;

use coordinator::config::api::{ApiLimits, MAX_HEAD_BYTES, MAX_HEAD_FIELDS};
use futures_util::future::join_all;
use testkit::raw::RawClient;
use testkit::wait::{wait_until, within};

use crate::fake_worker::{FakeWorker, main_authority};
use crate::harness::{Coordinator, MANAGER_KEY, circuit, patient, port_circuit};

const SOON: Duration = Duration::from_millis(300);

impl Coordinator {
    async fn raw(&self) -> RawClient {
        RawClient::connect(self.address()).await
    }

    async fn refusals(&self, reason: &str) -> u64 {
        self.metric(&format!("appproxy_coordinator_api_refusals_total{{reason=\"{reason}\"}}")).await
    }

    async fn wait_for_refusals(&self, reason: &str, count: u64) {
        wait_until(reason, async || self.refusals(reason).await == count).await;
    }
}

fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: coordinator\r\nAuthorization: Bearer {MANAGER_KEY}\r\n{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_in_time_ends_its_connection() {
    let coordinator = Coordinator::start_limited(ApiLimits { head_timeout: SOON, ..ApiLimits::default() }).await;
    let silent = coordinator.raw().await;
    let mut begun = coordinator.raw().await;
    begun.send("GET /v2/circuits HTTP/1.1\r\n").await;
    let mut second = coordinator.raw().await;
    assert_eq!(second.get("/health/livez", "coordinator").await.status, 200);
    second.send("GET /health/livez HTTP/1.1\r\nHost: coord").await;
    for mut client in [silent, begun, second] {
        client.wait_for_end().await;
    }
    coordinator.wait_for_refusals("head_timeout", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_idle_too_long_is_closed() {
    let coordinator = Coordinator::start_limited(ApiLimits { idle_timeout: SOON, ..ApiLimits::default() }).await;
    let mut client = coordinator.raw().await;
    assert_eq!(client.get("/health/livez", "coordinator").await.status, 200);
    client.wait_for_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_in_time_is_told_so() {
    let coordinator = Coordinator::start_limited(ApiLimits { body_timeout: SOON, ..ApiLimits::default() }).await;
    let mut client = coordinator.raw().await;
    client.send(&head("POST", "/v2/circuits", "Content-Length: 100\r\n")).await;
    client.send("{\"session_id\": ").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408, "{}", answer.body);
    assert!(answer.body.contains("\"body_timeout\""), "{}", answer.body);
    client.wait_for_end().await;
    assert_eq!(coordinator.refusals("body_timeout").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_long_or_has_too_many_fields_is_refused_and_its_twin_passes() {
    let coordinator = Coordinator::start(patient()).await;
    let fields = |count: usize| (0..count).map(|index| format!("X-{index}: 1\r\n")).collect::<String>();
    let long = |length: usize| format!("X-Long: {}\r\n", "x".repeat(length));
    for (more, status) in [
        // Two fields are there already.
        (fields(MAX_HEAD_FIELDS - 2), 200),
        (fields(MAX_HEAD_FIELDS - 1), 431),
        (long(MAX_HEAD_BYTES - 200), 200),
        (long(MAX_HEAD_BYTES), 431),
    ] {
        let mut client = coordinator.raw().await;
        client.send(&head("GET", "/v2/circuits", &more)).await;
        assert_eq!(client.answer().await.status, status, "{} bytes", more.len());
    }
    coordinator.wait_for_refusals("head_too_large", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_places_are_told_to_come_again_and_health_answers_all_the_same() {
    let limits = ApiLimits { max_requests: 2, ..ApiLimits::default() };
    let coordinator = Coordinator::start_limited(limits).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    worker.hold().await;
    // Both wait for the worker.
    let waiting =
        join_all(["app", "web"].map(|service| coordinator.manager.post("/v2/circuits", circuit("s1", service))));
    let watching = async {
        let nobody = coordinator.caller(None);
        // Whoever asks before they have their places might take one of them.
        let is_open = async |key| coordinator.ground.published_open(key).await.is_some();
        wait_until("both to wait", async || is_open("s1:app").await && is_open("s1:web").await).await;
        let refused = nobody.get("/v2/openapi.json").await;
        refused.expect_problem(503, "overloaded");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(refused.header("x-request-id").is_some());
        for path in ["/health", "/health/livez", "/health/readyz"] {
            nobody.get(path).await.expect(200);
        }
        worker.release();
    };
    let (opened, ()) = tokio::join!(waiting, watching);
    for reply in opened {
        reply.expect(201);
    }
    coordinator.show("s1:app").await;
    assert_eq!(coordinator.refusals("overloaded").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_is_cut_short_and_the_change_goes_on() {
    let limits = ApiLimits { request_timeout: SOON, ..ApiLimits::default() };
    let coordinator = Coordinator::start_limited(limits).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;
    worker.hold().await;
    coordinator
        .manager
        .post("/v2/circuits", port_circuit("s1", "app", None))
        .await
        .expect_problem(504, "request_timeout");
    worker.release();
    wait_until("the circuit", async || coordinator.circuit_status("s1:app").await == "HEALTHY").await;
    assert_eq!(coordinator.refusals("request_timeout").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_its_share_of_connections_and_one_that_goes_makes_room() {
    let limits = ApiLimits { max_connections_per_client: 3, ..ApiLimits::default() };
    let coordinator = Coordinator::start_limited(limits).await;
    // One of the three is that of the harness.
    let first = coordinator.raw().await;
    let mut second = coordinator.raw().await;
    assert_eq!(second.get("/health/livez", "coordinator").await.status, 200);
    let mut third = coordinator.raw().await;
    third.wait_for_end().await;
    assert_eq!(coordinator.refusals("client_connections").await, 1);
    drop(first);
    wait_until("room for another", async || {
        let mut client = coordinator.raw().await;
        client.send("GET /health/livez HTTP/1.1\r\nHost: coordinator\r\n\r\n").await;
        client.try_answer().await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_lets_a_change_finish_and_waits_for_no_idle_connection() {
    let coordinator = Coordinator::start(patient()).await;
    let worker = FakeWorker::start(&coordinator.ground, "w1", main_authority("40000-40099")).await;
    worker.register(&coordinator).await.expect(204);
    coordinator.wait_for_worker("w1", "ALIVE").await;
    let mut idle = coordinator.raw().await;
    assert_eq!(idle.get("/health/livez", "coordinator").await.status, 200);
    let held_at = worker.hold().await;
    let manager = coordinator.manager.clone();
    let opening = tokio::spawn(async move { manager.post("/v2/circuits", circuit("s1", "app")).await });
    worker.is_asked_beyond(held_at).await;
    let stopping = tokio::spawn(coordinator.stop());
    idle.wait_for_end().await;
    assert!(!stopping.is_finished(), "the change was not waited for");
    worker.release();
    within("the circuit", opening).await.unwrap().expect(201);
    stopping.await.unwrap();
}
