//! Targets that are away, broken or missing.

use std::time::{Duration, Instant};

use testkit::client::client;
use testkit::origin::{Origin, target};
use testkit::ports::DeadPort;

use crate::harness::{TestEdge, by_host, name_of};

/// Well below the time limit of an attempt to connect, well above what a refusal takes on a loaded machine.
const AT_ONCE: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn a_target_that_has_died_is_a_bad_gateway_at_once_and_stays_unnamed() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
    let dead = origin.address();
    drop(origin);
    let start = Instant::now();
    let response = edge.get("lab.apps.test", "/").await;
    assert!(start.elapsed() < AT_ONCE);
    assert_eq!(response.status(), 502);
    let text = response.text().await.expect("text");
    assert!(text.contains("target_unreachable"));
    assert!(!text.contains(&dead.port().to_string()), "{text}");
    assert_eq!(edge.metric("appproxy_edge_target_faults_total{reason=\"connect\"}").await, 1.0);
}

#[tokio::test]
async fn the_next_target_gets_the_request_of_a_dead_one() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("alive").await);
    let (first, second) = (DeadPort::hold(), DeadPort::hold());
    let targets = vec![target("127.0.0.1", first.port()), target("127.0.0.1", second.port()), origin.target()];
    edge.serve(&by_host("lab", targets)).await;
    for _ in 0..6 {
        let request = client().post(edge.url("lab.apps.test", "/")).body("not sent twice");
        assert_eq!(name_of(request.send().await.expect("answered")).await, "alive");
    }
    assert_eq!(origin.requests().len(), 6);
}

#[tokio::test]
async fn attempts_have_a_limit() {
    let edge = TestEdge::start().await;
    let dead: Vec<DeadPort> = (0..6).map(|_| DeadPort::hold()).collect();
    edge.serve(&by_host("lab", dead.iter().map(|dead| target("127.0.0.1", dead.port())).collect())).await;
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 503);
    assert_eq!(edge.metric("appproxy_edge_target_faults_total{reason=\"connect\"}").await, 3.0);
}

#[tokio::test]
async fn a_target_that_does_not_answer_the_attempt_to_connect_is_a_gateway_timeout() {
    let edge = TestEdge::start_with(|config| config.limits.connect = Duration::from_millis(200)).await;
    // TEST-NET-1 (RFC 5737): nothing answers there, and where packets are refused instead it is a bad gateway.
    edge.serve(&by_host("lab", vec![target("192.0.2.1", 80)])).await;
    let start = Instant::now();
    let status = edge.get("lab.apps.test", "/").await.status().as_u16();
    assert!([502, 503, 504].contains(&status), "{status}");
    assert!(start.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn no_target_is_unavailable_until_there_is_one() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let mut circuit = by_host("lab", vec![]);
    edge.serve(&circuit).await;
    let response = edge.get("lab.apps.test", "/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    circuit.targets = vec![origin.target()];
    edge.serve(&circuit).await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
}

#[tokio::test]
async fn a_target_may_be_a_name_with_several_addresses() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![target("localhost", origin.address().port())])).await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
}

#[tokio::test]
async fn a_name_without_an_address_is_a_bad_gateway_and_the_next_target_is_used() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("alive").await);
    let unknown = target("nobody.invalid", 80);
    edge.serve(&by_host("alone", vec![unknown.clone()])).await;
    assert_eq!(edge.get("alone.apps.test", "/").await.status(), 502);
    edge.serve(&by_host("pair", vec![unknown, origin.target()])).await;
    for _ in 0..2 {
        assert_eq!(name_of(edge.get("pair.apps.test", "/").await).await, "alive");
    }
}

#[tokio::test]
async fn a_target_that_does_not_speak_http_is_a_bad_gateway() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    origin.answer("/garbage", b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
    origin.answer("/nothing", b"");
    for path in ["/garbage", "/nothing"] {
        assert_eq!(edge.get("lab.apps.test", path).await.status(), 502, "{path}");
    }
    assert_eq!(edge.metric("appproxy_edge_target_faults_total{reason=\"broken\"}").await, 2.0);
}
