//! Health checks of targets, and what the coordinator hears of them.

use std::time::Duration;

use entities::circuit::{Backend, Circuit, Protocol};
use entities::health_check::{CheckType, HealthCheck};
use serde_json::json;
use testkit::http2::Http2Origin;
use testkit::origin::{Origin, target};
use testkit::ports::DeadPort;
use testkit::wait::wait_until;

use crate::harness::{TestEdge, at, by_host, name_of};
use crate::peer::Peer;

fn check(kind: CheckType) -> HealthCheck {
    HealthCheck {
        kind,
        path: (kind == CheckType::Http).then(|| "/healthy".to_owned()),
        expected_status: Vec::new(),
        interval_s: 1,
        timeout_s: 1,
        retries: 2,
        grace_s: 0,
    }
}

fn checked(mut circuit: Circuit, check: HealthCheck) -> Circuit {
    circuit.traffic.health_check = Some(check);
    circuit
}

/// Waits until the coordinator has heard this of a target.
async fn wait_for_report(edge: &TestEdge, circuit: &Circuit, port: u16, healthy: serde_json::Value) {
    let id = circuit.id.0.to_string();
    let heard = || edge.coordinator.target_health(&id, port);
    wait_until("a report", async || heard() == Some(healthy.clone())).await;
}

#[tokio::test]
async fn a_target_whose_check_fails_gets_nothing_until_it_succeeds() {
    let edge = TestEdge::start().await;
    let (sick, sound) = (Origin::start("sick").await, Origin::start("sound").await);
    sick.answer("/healthy", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    let circuit = checked(by_host("lab", vec![sick.target(), sound.target()]), check(CheckType::Http));
    edge.serve(&circuit).await;
    let port = sick.address().port();
    wait_for_report(&edge, &circuit, port, json!(false)).await;
    wait_for_report(&edge, &circuit, sound.address().port(), json!(true)).await;
    for _ in 0..6 {
        assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "sound");
    }
    sick.answer("/healthy", b"HTTP/1.1 204 Yes\r\n\r\n");
    wait_for_report(&edge, &circuit, port, json!(true)).await;
    let mut names = Vec::new();
    for _ in 0..2 {
        names.push(name_of(edge.get("lab.apps.test", "/").await).await);
    }
    names.sort_unstable();
    assert_eq!(names, ["sick", "sound"]);
}

/// The origin counts what it is asked.
#[tokio::test]
async fn circuits_with_the_same_check_share_its_probes_and_those_without_cause_none() {
    let edge = TestEdge::start().await;
    let (origin, quiet) = (Origin::start("lab").await, Origin::start("quiet").await);
    for name in ["one", "two", "three", "four"] {
        edge.serve(&checked(by_host(name, vec![origin.target()]), check(CheckType::Http))).await;
        edge.serve(&by_host(&format!("{name}-quiet"), vec![quiet.target(), origin.target()])).await;
    }
    // A check of one circuit tells how many rounds there were.
    let single = Origin::start("single").await;
    edge.serve(&checked(by_host("single", vec![single.target()]), check(CheckType::Http))).await;
    wait_until("four rounds", async || single.count("/healthy") >= 4).await;
    let probes = origin.count("/healthy");
    assert!((3..=6).contains(&probes), "{probes} probes for four rounds");
    assert!(quiet.requests().is_empty());
    let agent = origin.requests().iter().find(|request| request.path == "/healthy").and_then(|probe| {
        assert_eq!(probe.method, "GET");
        probe.header("user-agent").map(str::to_owned)
    });
    assert!(agent.is_some_and(|agent| agent.starts_with("appproxy/")));
}

#[tokio::test]
async fn a_check_ends_with_the_last_circuit_that_asks_for_it() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let mut circuit = checked(by_host("lab", vec![origin.target()]), check(CheckType::Http));
    edge.serve(&circuit).await;
    wait_for_report(&edge, &circuit, origin.address().port(), json!(true)).await;
    circuit.traffic.health_check = None;
    edge.serve(&circuit).await;
    wait_for_report(&edge, &circuit, origin.address().port(), json!(null)).await;
    let before = origin.count("/healthy");
    // Another check's second round is later than the next round of this one would have been.
    let other = Origin::start("other").await;
    edge.serve(&checked(by_host("other", vec![other.target()]), check(CheckType::Http))).await;
    wait_until("two rounds", async || other.count("/healthy") >= 3).await;
    assert!(origin.count("/healthy") <= before + 1, "at most the one that was under way");
}

#[tokio::test]
async fn a_target_that_takes_connections_is_up_for_a_tcp_check() {
    let (edge, origin, dead) = (TestEdge::start().await, Origin::start("lab").await, DeadPort::hold());
    let targets = vec![origin.target(), target("127.0.0.1", dead.port())];
    let circuit = checked(by_host("lab", targets), check(CheckType::Tcp));
    edge.serve(&circuit).await;
    wait_for_report(&edge, &circuit, origin.address().port(), json!(true)).await;
    wait_for_report(&edge, &circuit, dead.port(), json!(false)).await;
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn targets_of_http_2_are_asked_in_http_2() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let circuit = Circuit { protocol: Protocol::H2, backend: Backend::H2, ..by_host("lab", vec![origin.target()]) };
    let circuit = checked(circuit, check(CheckType::Http));
    edge.serve(&circuit).await;
    wait_for_report(&edge, &circuit, origin.address().port(), json!(true)).await;
    assert_eq!(origin.requests()[0].uri.path(), "/healthy");
}

/// The answer comes, but after the time of its probe.
#[tokio::test]
async fn an_answer_after_its_time_is_a_failure() {
    let (edge, peer) = (TestEdge::start().await, Peer::start().await);
    let circuit = checked(by_host("lab", vec![peer.target()]), check(CheckType::Http));
    edge.serve(&circuit).await;
    let answering = tokio::spawn(async move {
        loop {
            let mut probe = peer.accept().await;
            probe.head().await;
            // The prober has gone when its time is over.
            probe.until_end().await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut probe.stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    });
    let port = circuit.targets[0].port.number();
    wait_for_report(&edge, &circuit, port, json!(false)).await;
    answering.abort();
}

#[tokio::test]
async fn a_target_is_not_down_while_its_grace_lasts() {
    let (edge, dead, starting) = (TestEdge::start().await, DeadPort::hold(), DeadPort::hold());
    let patient = HealthCheck { grace_s: 3_600, ..check(CheckType::Tcp) };
    let kind = checked(by_host("kind", vec![target("127.0.0.1", starting.port())]), patient);
    let strict = checked(by_host("strict", vec![target("127.0.0.1", dead.port())]), check(CheckType::Tcp));
    edge.serve(&kind).await;
    edge.serve(&strict).await;
    wait_for_report(&edge, &strict, dead.port(), json!(false)).await;
    assert_eq!(edge.coordinator.target_health(&kind.id.0.to_string(), starting.port()), None);
}

/// Without a check: what requests meet takes it out, and one probe brings it back.
#[tokio::test]
async fn a_target_that_fails_is_out_and_a_probe_brings_it_back() {
    let edge = TestEdge::start().await;
    let (sound, dying) = (Origin::start("sound").await, Origin::start("dying").await);
    let circuit = by_host("lab", vec![sound.target(), dying.target()]);
    edge.serve(&circuit).await;
    let address = dying.address();
    drop(dying);
    for _ in 0..8 {
        assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "sound");
    }
    wait_for_report(&edge, &circuit, address.port(), json!(false)).await;
    assert_eq!(edge.coordinator.target_health(&circuit.id.0.to_string(), sound.address().port()), None);
    let back = Origin::start_at("back", at(address.port())).await;
    wait_for_report(&edge, &circuit, address.port(), json!(true)).await;
    assert!(back.requests().is_empty(), "no request had to find out");
    let mut names =
        [name_of(edge.get("lab.apps.test", "/").await).await, name_of(edge.get("lab.apps.test", "/").await).await];
    names.sort_unstable();
    assert_eq!(names, ["back", "sound"]);
}

#[tokio::test]
async fn who_says_so_answers_unavailable_when_every_target_looks_down() {
    let edge = TestEdge::start_with(|config| config.targets.fails_open = false).await;
    let origin = Origin::start("lab").await;
    origin.answer("/healthy", b"HTTP/1.1 503 No\r\n\r\n");
    let circuit = checked(by_host("lab", vec![origin.target()]), check(CheckType::Http));
    edge.serve(&circuit).await;
    wait_for_report(&edge, &circuit, origin.address().port(), json!(false)).await;
    let response = edge.get("lab.apps.test", "/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(origin.count("/"), 0);
}

/// Nobody knows better than the checker, but it may be wrong.
#[tokio::test]
async fn when_every_target_looks_down_they_are_tried() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    origin.answer("/healthy", b"HTTP/1.1 503 No\r\n\r\n");
    let circuit = checked(by_host("lab", vec![origin.target()]), check(CheckType::Http));
    edge.serve(&circuit).await;
    wait_for_report(&edge, &circuit, origin.address().port(), json!(false)).await;
    assert_eq!(name_of(edge.get("lab.apps.test", "/").await).await, "lab");
}

#[tokio::test]
async fn a_coordinator_that_takes_the_edge_up_again_hears_everything_again() {
    let edge = TestEdge::start_with(|config| config.heartbeat_interval = Duration::from_millis(50)).await;
    let origin = Origin::start("lab").await;
    let circuit = checked(by_host("lab", vec![origin.target()]), check(CheckType::Tcp));
    edge.serve(&circuit).await;
    let port = origin.address().port();
    wait_for_report(&edge, &circuit, port, json!(true)).await;
    let told = || {
        let calls = edge.coordinator.calls();
        let reports = calls.iter().filter_map(|call| call.body["targets"].as_array());
        reports.flatten().filter(|report| report["port"] == port).count()
    };
    assert_eq!(told(), 1, "it is news only once");
    edge.coordinator.answer(testkit::coordinator::Statuses { heartbeat: 404, ..Default::default() });
    wait_until("another registration", async || edge.coordinator.count("PUT") >= 2).await;
    edge.coordinator.answer(testkit::coordinator::Statuses::default());
    wait_until("the report once more", async || told() >= 2).await;
}
