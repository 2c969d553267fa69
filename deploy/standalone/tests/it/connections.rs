//! Promise 1: an open connection is never cut by a change to another circuit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use testkit::origin::Origin;
use testkit::wait::wait_until;
use testkit::websocket::WebSocket;

use crate::harness::{Manager, Proxy, Settings, circuit, host_and_port, port_range};

const SOCKETS: usize = 100;
const OTHERS: usize = 1_000;
const MANAGERS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_websockets_lose_nothing_while_a_thousand_other_circuits_come_change_and_go() {
    // A connection that was taken for one of a closed circuit would be cut soon.
    let drain_time = Duration::from_secs(1);
    let proxy = Proxy::start_with(Settings { ports: port_range(900), drain_time, registry_lag: Duration::ZERO }).await;
    let origin = Origin::start("app").await;
    let other = Origin::start("other").await;

    let is_over = Arc::new(AtomicBool::new(false));
    let exchanged = Arc::new(AtomicU64::new(0));
    let mut sockets = tokio::task::JoinSet::new();
    for index in 0..SOCKETS {
        // Ten on each of five ports, ten on each of five subdomains.
        let mode = if index % 2 == 0 { "port" } else { "subdomain" };
        let service = format!("kept-{}-{mode}", index % 10);
        let body = circuit("kept", &service, mode, &[origin.address()]);
        let (_, kept) = proxy.manager.call("POST", "/v2/circuits", Some(body)).await;
        let (host, port) = host_and_port(&kept);
        let socket = WebSocket::open(([127, 0, 0, 1], port).into(), &host, "/ws").await.unwrap();
        sockets.spawn(talk(index, socket, Arc::clone(&is_over), Arc::clone(&exchanged)));
    }

    let mut managers = tokio::task::JoinSet::new();
    for number in 0..MANAGERS {
        managers.spawn(come_change_and_go(proxy.manager.clone(), number, other.address()));
    }
    // The watch is lost again and again while circuits change; each time the edge lists and compares.
    let registry = proxy.registry.clone();
    let breaking = tokio::spawn(async move {
        let mut pause = tokio::time::interval(Duration::from_millis(100));
        loop {
            pause.tick().await;
            registry.end_watches();
        }
    });
    while let Some(done) = managers.join_next().await {
        done.unwrap();
    }
    breaking.abort();

    let before = exchanged.load(Ordering::SeqCst);
    wait_until("every socket's next message", async || {
        exchanged.load(Ordering::SeqCst) >= before + u64::try_from(SOCKETS).unwrap()
    })
    .await;
    is_over.store(true, Ordering::SeqCst);
    let mut least = u64::MAX;
    while let Some(done) = sockets.join_next().await {
        least = least.min(done.unwrap());
    }
    assert!(least > 0, "a socket carried no message at all");
    proxy.stop().await;
}

/// Sends numbered messages and takes each back; a lost, doubled or cut one fails the test.
async fn talk(index: usize, mut socket: WebSocket, is_over: Arc<AtomicBool>, exchanged: Arc<AtomicU64>) -> u64 {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let mut number = 0u64;
    while !is_over.load(Ordering::SeqCst) {
        pace.tick().await;
        number += 1;
        let message = format!("{index}/{number}");
        assert_eq!(socket.echo(&message).await.as_deref(), Some(message.as_str()), "socket {index} lost a message");
        exchanged.fetch_add(1, Ordering::SeqCst);
    }
    number
}

async fn come_change_and_go(manager: Manager, number: usize, target: std::net::SocketAddr) {
    for index in (number..OTHERS).step_by(MANAGERS) {
        let mode = if index % 2 == 0 { "port" } else { "subdomain" };
        let opened = manager.open(circuit(&format!("m{number}"), &format!("other-{index}"), mode, &[target])).await;
        let key = opened["key"].as_str().unwrap();
        let change = json!({"targets": [], "labels": {"changed": "yes"}});
        let (status, body) = manager.call("PATCH", &format!("/v2/circuits/{key}"), Some(change)).await;
        assert!(status.is_success(), "{body}");
        manager.close(key).await;
    }
}
