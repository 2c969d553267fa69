//! Promise 3: no port is given to two circuits, and a released one rests, whatever is killed when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use testkit::wait::wait_until;

use crate::child::Killable;
use crate::harness::{Manager, port_range};

const PORTS: u16 = 20;
const CLIENTS: usize = 6;
const ROUNDS: usize = 6;
const REST: Duration = Duration::from_secs(60);

/// What the clients know for sure.
#[derive(Default)]
struct Ledger {
    /// Who was told that it has which port.
    holders: HashMap<u16, String>,
    /// When a port was released at the earliest.
    released_at_ms: HashMap<u16, i64>,
    granted: usize,
}

impl Ledger {
    fn grant(&mut self, key: &str, port: u16, now_ms: i64) {
        let before = self.holders.insert(port, key.to_owned());
        assert!(before.is_none(), "port {port} of {before:?} was given to {key} too");
        if let Some(released_at_ms) = self.released_at_ms.get(&port) {
            let rested = Duration::from_millis(u64::try_from(now_ms - released_at_ms).unwrap());
            assert!(rested >= REST, "port {port} was given again after {rested:?}");
        }
        self.granted += 1;
    }

    fn release(&mut self, port: u16, now_ms: i64) {
        self.holders.remove(&port);
        self.released_at_ms.insert(port, now_ms);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_port_is_given_twice_or_before_its_rest_is_over_across_kills() {
    let seed = rand::rng().random::<u64>();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut proxy = Killable::start(port_range(PORTS)).await;
    let ledger = Arc::new(Mutex::new(Ledger::default()));

    for round in 0..ROUNDS {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            let client_seed = rng.random();
            let (manager, ledger, now_ms) = (proxy.manager.clone(), Arc::clone(&ledger), proxy.now_ms());
            clients.spawn(open_and_close(manager, ledger, now_ms, round, number, client_seed));
        }
        let wanted = ledger.lock().unwrap().granted + rng.random_range(1..usize::from(PORTS) / 2);
        wait_until("some ports", async || ledger.lock().unwrap().granted >= wanted).await;
        proxy.kill().await;
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
        proxy.restart().await;
        learn_what_the_kill_left(&proxy, &ledger).await;

        proxy.advance(REST / 2);
        assert_no_resting_port_is_given(&proxy, &ledger).await;
        close_all(&proxy, &ledger).await;
        proxy.advance(REST);
        // What the kill interrupted is confirmed after the restart: no port rests longer than it must.
        wait_until("every port's rest to be over", async || free_ports(&proxy).await == u64::from(PORTS)).await;
    }
    assert!(ledger.lock().unwrap().granted > usize::from(PORTS), "ports were given again and again");
}

/// Opens and closes until the proxy is killed or no port is left.
async fn open_and_close(
    manager: Manager,
    ledger: Arc<Mutex<Ledger>>,
    now_ms: i64,
    round: usize,
    number: usize,
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    for step in 0.. {
        let service = format!("app-{round}-{number}-{step}");
        let Ok((status, opened)) = manager.try_call("POST", "/v2/circuits", Some(body(&service))).await else { return };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return;
        }
        assert_eq!(status, StatusCode::CREATED, "{opened}");
        let key = opened["key"].as_str().unwrap();
        let port = u16::try_from(opened["frontend"]["port"].as_u64().unwrap()).unwrap();
        ledger.lock().unwrap().grant(key, port, now_ms);
        if rng.random_bool(0.3) {
            continue;
        }
        // From here on nobody knows when exactly the port becomes free; the earliest moment is now.
        ledger.lock().unwrap().release(port, now_ms);
        match manager.try_call("DELETE", &format!("/v2/circuits/{key}"), None).await {
            Ok((status, body)) => assert!(status.is_success(), "{body}"),
            Err(_) => {
                // It may have been closed or not: what is there after the restart tells.
                ledger.lock().unwrap().holders.insert(port, key.to_owned());
                return;
            }
        }
    }
}

fn body(service: &str) -> serde_json::Value {
    json!({"session_id": "s1", "service": service, "frontend": {"mode": "port"}, "targets": [],
        "access": {"public": true}})
}

/// The store is the truth about requests that were never answered.
async fn learn_what_the_kill_left(proxy: &Killable, ledger: &Mutex<Ledger>) {
    let (status, list) = proxy.manager.call("GET", "/v2/circuits?limit=1000", None).await;
    assert_eq!(status, StatusCode::OK);
    let mut open: HashMap<u16, String> = HashMap::new();
    for item in list["items"].as_array().unwrap() {
        let port = u16::try_from(item["frontend"]["port"].as_u64().unwrap()).unwrap();
        let before = open.insert(port, item["key"].as_str().unwrap().to_owned());
        assert!(before.is_none(), "two stored circuits have port {port}");
    }
    let now_ms = proxy.now_ms();
    let mut ledger = ledger.lock().unwrap();
    let held: Vec<(u16, String)> = ledger.holders.iter().map(|(port, key)| (*port, key.clone())).collect();
    for (port, key) in held {
        match open.get(&port) {
            Some(other) => assert_eq!(other, &key, "port {port} changed hands"),
            // Only a circuit whose closing was under way may be gone, and its port rests.
            None => {
                assert!(ledger.released_at_ms.get(&port) == Some(&now_ms), "circuit {key} was lost");
                ledger.release(port, now_ms);
            }
        }
    }
    for (port, key) in open {
        if !ledger.holders.contains_key(&port) {
            ledger.grant(&key, port, now_ms);
        }
    }
}

/// With half of the rest over, only ports that were never given may be given.
async fn assert_no_resting_port_is_given(proxy: &Killable, ledger: &Mutex<Ledger>) {
    loop {
        let service = format!("half-{}", ledger.lock().unwrap().granted);
        let (status, opened) = proxy.manager.call("POST", "/v2/circuits", Some(body(&service))).await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(opened["code"], "no_free_port");
            return;
        }
        let port = u16::try_from(opened["frontend"]["port"].as_u64().unwrap()).unwrap();
        ledger.lock().unwrap().grant(opened["key"].as_str().unwrap(), port, proxy.now_ms());
        // Closed at once, so that every port is used up in this round and none is held for ever.
        ledger.lock().unwrap().release(port, proxy.now_ms());
        proxy.manager.close(opened["key"].as_str().unwrap()).await;
    }
}

async fn close_all(proxy: &Killable, ledger: &Mutex<Ledger>) {
    let held: Vec<u16> = ledger.lock().unwrap().holders.keys().copied().collect();
    for port in held {
        ledger.lock().unwrap().release(port, proxy.now_ms());
    }
    let (status, body) = proxy.manager.call("DELETE", "/v2/sessions/s1", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
}

async fn free_ports(proxy: &Killable) -> u64 {
    let (_, authorities) = proxy.manager.call("GET", "/v2/authorities", None).await;
    authorities["items"][0]["ports"]["free"].as_u64().unwrap()
}
