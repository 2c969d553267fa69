//! A model service whose replicas die, come back, are replaced and re-weighted under load: clients notice none of it.
//!
//! `APPPROXY_TEST_REPLICAS_S` makes it longer than 45 seconds.

mod load;
mod process;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::client::client;
use testkit::wait::{wait_until, wait_until_for};
use testkit::websocket::WebSocket;

use crate::harness::{Manager, host_and_port};
use crate::program::Program;
use load::{Load, Outcome, Speaking};
use process::Replica;

/// From one probe to the next.
const INTERVAL: Duration = Duration::from_secs(5);

/// What telling takes beyond finding out, on a machine that has much else to do.
const TELLING: Duration = Duration::from_secs(1);

/// Within this time after a kill, an upload that the replica had begun to read may fail.
const AFTER_A_KILL: Duration = Duration::from_secs(2);

const KEY: &str = "model:api";

/// The service as its manager sees it.
struct Service {
    manager: Manager,
    replicas: Vec<Replica>,
    /// Those that were replaced; they finish what is open.
    retired: Vec<Replica>,
    weights: Vec<u16>,
    load: Load,
    url: String,
    edge: SocketAddr,
    /// When which replica was killed.
    kills: Vec<Instant>,
    /// How long each transition took to be seen.
    seen: BTreeMap<&'static str, Vec<Duration>>,
}

// === impl Service ===

impl Service {
    fn targets(&self) -> Value {
        let target = |(replica, weight): (&Replica, &u16)| json!({"host": replica.address.ip(), "port": replica.address.port(), "weight": weight});
        self.replicas.iter().zip(&self.weights).map(target).collect()
    }

    async fn change(&self, body: Value) {
        let (status, shown) = self.manager.call("PATCH", &format!("/v2/circuits/{KEY}"), Some(body)).await;
        assert_eq!(status, 200, "{shown}");
    }

    /// Waits until the coordinator tells this of a replica, and notes how long it took.
    async fn wait_for_health(&mut self, what: &'static str, port: u16, healthy: bool) {
        let began = Instant::now();
        wait_until_for(what, INTERVAL + TELLING, async || {
            let (_, shown) = self.manager.call("GET", &format!("/v2/circuits/{KEY}"), None).await;
            let targets = shown["targets"].as_array().unwrap();
            targets.iter().any(|target| target["port"] == port && target["healthy"] == healthy)
        })
        .await;
        self.seen.entry(what).or_default().push(began.elapsed());
    }

    /// A WebSocket at each replica, led there by its cookie.
    async fn speak(&self) -> Vec<(String, Speaking)> {
        let mut speaking: Vec<(String, Speaking)> = Vec::new();
        let host = self.url.strip_prefix("http://").unwrap().trim_end_matches('/');
        wait_until("a cookie of each replica", async || {
            let response = client().get(&self.url).send().await.unwrap();
            let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
            let echo: Value = response.json().await.unwrap();
            let name = echo["name"].as_str().unwrap();
            if speaking.iter().all(|(known, _)| known != name) {
                let socket = WebSocket::open_with_cookie(self.edge, host, "/ws", &cookie).await.unwrap();
                speaking.push((name.to_owned(), Speaking::start(socket)));
            }
            speaking.len() == self.replicas.len()
        })
        .await;
        speaking
    }

    /// Whoever spoke to `gone` has been cut off, and nobody else.
    async fn end_speech(speaking: Vec<(String, Speaking)>, gone: Option<&str>) {
        for (name, socket) in speaking {
            if gone == Some(name.as_str()) {
                wait_until("the end of its WebSocket", async || socket.has_ended()).await;
                continue;
            }
            let answered = socket.finish().await;
            assert!(answered.is_ok(), "a WebSocket at {name} was cut off: {answered:?}");
        }
    }

    async fn kill_and_restart(&mut self, index: usize) {
        let speaking = self.speak().await;
        let (name, port) = (self.replicas[index].name.clone(), self.replicas[index].address.port());
        // In the middle of somebody's upload: there are always some under way.
        self.kills.push(Instant::now());
        self.replicas[index].kill().await;
        self.wait_for_health("killed", port, false).await;
        let since = Instant::now();
        wait_until("answers of the others", async || self.load.answered_since(since).len() == 2).await;
        Self::end_speech(speaking, Some(&name)).await;
        self.replicas[index].restart().await;
        self.wait_for_health("restarted", port, true).await;
        let since = Instant::now();
        wait_until("answers of all", async || self.load.answered_since(since).len() == 3).await;
    }

    async fn replace(&mut self, index: usize) {
        let speaking = self.speak().await;
        let name = format!("{}+", self.replicas[index].name);
        let old = std::mem::replace(&mut self.replicas[index], Replica::start(&name).await);
        self.change(json!({"targets": self.targets()})).await;
        let since = Instant::now();
        let port = self.replicas[index].address.port();
        self.wait_for_health("replaced", port, true).await;
        wait_until("answers of the new one", async || self.load.answered_since(since).contains_key(&name)).await;
        let answered = self.load.answered_since(since);
        assert!(!answered.contains_key(&old.name), "the old one still gets requests: {answered:?}");
        Self::end_speech(speaking, None).await;
        self.retired.push(old);
    }

    async fn weigh(&mut self, index: usize) {
        let speaking = self.speak().await;
        self.weights = vec![1; 3];
        self.weights[index] = 5;
        self.change(json!({"targets": self.targets()})).await;
        let since = Instant::now();
        let total = |answered: &std::collections::HashMap<String, usize>| answered.values().sum::<usize>();
        wait_until("350 answers", async || total(&self.load.answered_since(since)) >= 350).await;
        let answered = self.load.answered_since(since);
        let share = answered[&self.replicas[index].name] as f64 / total(&answered) as f64;
        // What ended out of order at either end of the window is not much.
        assert!((share - 5.0 / 7.0).abs() < 0.1, "{share} of 5/7: {answered:?}");
        self.weights = vec![1, 1, 1];
        self.change(json!({"targets": self.targets()})).await;
        Self::end_speech(speaking, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_come_and_go_under_load_and_clients_notice_none_of_it() {
    let seconds = std::env::var("APPPROXY_TEST_REPLICAS_S").map_or(45, |text| text.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    let program = Program::start(data.path(), "127.0.0.1:0", "127.0.0.1:0").await;
    let manager = program.manager.clone();
    let replicas = vec![Replica::start("a").await, Replica::start("b").await, Replica::start("c").await];
    let opened = manager
        .open(json!({
            "endpoint_id": "model", "app_mode": "inference", "service": "api",
            "access": {"public": true},
            "targets": replicas.iter().map(|replica| json!({"host": "127.0.0.1", "port": replica.address.port()}))
                .collect::<Value>(),
            "load_balancing": {"strategy": "weighted"}, "affinity": {"cookie": true}, "retries": {"idempotent": true},
            "health_check": {"type": "http", "path": "/healthy", "interval_s": INTERVAL.as_secs()},
        }))
        .await;
    let url = format!("http://{}/", host_and_port(&opened).0);
    let (began, load) = (Instant::now(), Load::start(&url, program.edge));
    let mut service = Service {
        manager,
        replicas,
        retired: Vec::new(),
        weights: vec![1; 3],
        load,
        url,
        edge: program.edge,
        kills: Vec::new(),
        seen: BTreeMap::new(),
    };
    let end = began + Duration::from_secs(seconds);
    for round in 0.. {
        service.kill_and_restart(round % 3).await;
        service.replace((round + 1) % 3).await;
        service.weigh((round + 2) % 3).await;
        if Instant::now() >= end {
            break;
        }
    }
    let time = began.elapsed();
    let Service { load, kills, seen, .. } = service;
    judge(&load.finish().await, time, &kills, &seen);
    assert!(program.terminate().await);
}

/// Prints what there was, and fails if a client has noticed anything that it need not.
fn judge(outcomes: &[Outcome], time: Duration, kills: &[Instant], seen: &BTreeMap<&str, Vec<Duration>>) {
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
    let posts = outcomes.iter().filter(|outcome| !outcome.is_idempotent()).count();
    let cut = failed.iter().filter(|outcome| outcome.is_slow).count();
    println!(
        "{} requests in {time:.1?}, {posts} of them POST; {} kills; {} POSTs failed, {cut} of them in the middle of a body",
        outcomes.len(),
        kills.len(),
        failed.len()
    );
    println!("seen after: {seen:.1?}");
    assert!(outcomes.len() as f64 >= 200.0 * time.as_secs_f64(), "fewer than 200 requests a second");
    assert!(posts * 5 >= outcomes.len() * 2, "half of them should be POST: {posts} of {}", outcomes.len());
    let idempotent: Vec<_> = failed.iter().filter(|outcome| outcome.is_idempotent()).collect();
    assert!(idempotent.is_empty(), "idempotent requests failed: {idempotent:#?}");
    // A POST that a replica had begun to read when it was killed may have been acted upon: nobody sends it again.
    let is_explained = |outcome: &&&Outcome| {
        kills.iter().any(|kill| {
            outcome.began <= *kill + AFTER_A_KILL && outcome.ended >= *kill && outcome.ended <= *kill + AFTER_A_KILL
        })
    };
    let unexplained: Vec<_> = failed.iter().filter(|outcome| !is_explained(outcome)).collect();
    assert!(unexplained.is_empty(), "POSTs failed and no replica was killed: {unexplained:#?}");
    assert!(cut >= 1, "no replica was killed in the middle of a body");
}
