//! Promise 3: no port is given to two circuits, and a released one rests, whatever is killed when.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cluster::{Cluster, Options};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use serde_json::Value;
use testkit::manager::{Manager, circuit};
use testkit::origin::Origin;
use testkit::wait::wait_until;

const PORTS: u16 = 16;
const CLIENTS: usize = 5;
const ROUNDS: usize = 5;
const REST: Duration = Duration::from_secs(2);

/// What the clients know for sure.
#[derive(Default)]
struct Ledger {
    /// Who was told that it has which port, and has not begun to close it.
    holders: HashMap<u16, String>,
    /// A moment before which the port was certainly not released.
    released_after: HashMap<u16, Instant>,
    granted: usize,
}

impl Ledger {
    fn grant(&mut self, key: &str, port: u16) {
        let before = self.holders.insert(port, key.to_owned());
        assert!(before.is_none(), "port {port} of {before:?} was given to {key} too");
        if let Some(released_after) = self.released_after.get(&port) {
            let rested = released_after.elapsed();
            assert!(rested >= REST, "port {port} was given again to {key} after {rested:?}");
        }
        self.granted += 1;
    }

    fn release(&mut self, port: u16) {
        self.holders.remove(&port);
        self.released_after.insert(port, Instant::now());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_port_is_given_twice_or_before_its_rest_is_over_whatever_is_killed() {
    let seed = rand::rng().random::<u64>();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let options = Options {
        ports: PORTS,
        has_own_postgres: true,
        edge: vec![("APPPROXY_CIRCUITS__DRAIN_S", "1".to_owned())],
        coordinator: vec![("APPPROXY_CIRCUITS__PORT_REST_S", REST.as_secs().to_string())],
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(options).await;
    let ledger = Mutex::new(Ledger::default());
    let mut origins = Vec::new();
    for number in 0..CLIENTS {
        origins.push(Origin::start(&format!("of client {number}")).await);
    }

    for round in 0..ROUNDS {
        let wanted = ledger.lock().unwrap().granted + rng.random_range(5..20);
        let is_over = Mutex::new(false);
        let Cluster { manager, edges, coordinator, etcd, database, .. } = &mut cluster;
        let client = async |number: usize, seed: u64| {
            let mut rng = StdRng::seed_from_u64(seed);
            for step in 0.. {
                if *is_over.lock().unwrap() {
                    return;
                }
                let service = format!("app-{round}-{number}-{step}");
                let body = circuit("s1", &service, "port", &[origins[number].address()]);
                let Some((status, key, port)) = try_open(manager, body, &ledger).await else { continue };
                if status == StatusCode::CREATED {
                    for edge in edges.iter() {
                        let answer = edge.get_port(port).await.unwrap();
                        let name = format!("of client {number}");
                        assert!(answer.body.contains(&name), "{key} at {}: {}", edge.id, answer.body);
                    }
                }
                if rng.random_bool(0.8) {
                    ledger.lock().unwrap().release(port);
                    // Whatever becomes of it: the port counts as released from here on at the earliest.
                    let _ = manager.try_call("DELETE", &format!("/v2/circuits/{key}"), None).await;
                }
            }
        };
        let killer = async {
            wait_until("some ports", async || ledger.lock().unwrap().granted >= wanted).await;
            match round % 4 {
                0 => coordinator.kill(),
                1 => database.server().kill(),
                2 => etcd.kill(),
                _ => {
                    coordinator.kill();
                    database.server().kill();
                    etcd.kill();
                }
            }
            database.server().restart();
            etcd.restart().await;
            if matches!(round % 4, 0 | 3) {
                coordinator.start();
            }
            let wanted = ledger.lock().unwrap().granted + 5;
            wait_until("ports to be given again", async || ledger.lock().unwrap().granted >= wanted).await;
            *is_over.lock().unwrap() = true;
        };
        let clients = join_all((0..CLIENTS).map(|number| client(number, seed + number as u64)));
        futures_util::future::join(clients, killer).await;
        cluster.wait_until_alive().await;
        learn_what_is_open(&cluster, &ledger).await;
        close_all(&cluster, &ledger).await;
    }
    assert!(ledger.lock().unwrap().granted > usize::from(PORTS), "ports were given again and again");
}

/// A circuit that was stored, with its port; it may not be served yet.
async fn try_open(manager: &Manager, body: Value, ledger: &Mutex<Ledger>) -> Option<(StatusCode, String, u16)> {
    let (status, opened) = manager.try_call("POST", "/v2/circuits", Some(body)).await.ok()?;
    if !matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED) {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{opened}");
        return None;
    }
    let key = opened["key"].as_str().unwrap().to_owned();
    let port = u16::try_from(opened["frontend"]["port"].as_u64().unwrap()).unwrap();
    ledger.lock().unwrap().grant(&key, port);
    Some((status, key, port))
}

/// The store is the truth about requests that were never answered.
async fn learn_what_is_open(cluster: &Cluster, ledger: &Mutex<Ledger>) {
    let (status, list) = cluster.manager.call("GET", "/v2/circuits?limit=1000", None).await;
    assert_eq!(status, StatusCode::OK);
    let mut open: HashMap<u16, String> = HashMap::new();
    for item in list["items"].as_array().unwrap() {
        let port = u16::try_from(item["frontend"]["port"].as_u64().unwrap()).unwrap();
        let before = open.insert(port, item["key"].as_str().unwrap().to_owned());
        assert!(before.is_none(), "two stored circuits have port {port}");
    }
    for (port, key) in &ledger.lock().unwrap().holders {
        assert_eq!(open.get(port), Some(key), "port {port} changed hands");
    }
}

async fn close_all(cluster: &Cluster, ledger: &Mutex<Ledger>) {
    let held: Vec<u16> = ledger.lock().unwrap().holders.keys().copied().collect();
    for port in held {
        ledger.lock().unwrap().release(port);
    }
    let (status, body) = cluster.manager.call("DELETE", "/v2/sessions/s1", None).await;
    assert!(status.is_success(), "{status} {body}");
}
