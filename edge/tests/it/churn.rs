//! Promise 1 under random changes: an open connection is never cut by a change to another circuit.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use entities::circuit::Circuit;
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, at, by_host, by_port};

const CIRCUITS: u64 = 12;
const CHANGES: u64 = 300;

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // Xorshift (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64 | 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_websockets_survive_whatever_happens_to_other_circuits() {
    let seed = seed();
    println!("SEED={seed}");
    let mut random = Random(seed);
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::ZERO).await;
    let origin = Origin::start("lab").await;
    let mut sockets = Vec::new();
    for number in 0..CIRCUITS {
        let name = format!("stays-{number}");
        let (circuit, address) = if number % 2 == 0 {
            (by_host(&name, vec![origin.target()]), edge.address)
        } else {
            let port = free_port();
            (by_port(&name, port, vec![origin.target()]), at(port))
        };
        edge.serve(&circuit).await;
        sockets.push(WebSocket::open(address, &format!("{name}.apps.test"), "/ws").await.expect("upgraded"));
    }
    let mut others: Vec<Option<Circuit>> = vec![None; 8];
    for change in 0..CHANGES {
        let place = random.below(8) as usize;
        let name = format!("changes-{place}");
        match (others[place].clone(), random.below(4)) {
            (None, 0 | 1) => {
                let circuit = by_host(&name, vec![origin.target()]);
                edge.publish(&circuit).await;
                others[place] = Some(circuit);
            }
            (None, _) => {
                let circuit = by_port(&name, free_port(), vec![origin.target()]);
                edge.publish(&circuit).await;
                others[place] = Some(circuit);
            }
            (Some(mut circuit), 0) => {
                circuit.targets.clear();
                edge.publish(&circuit).await;
            }
            (Some(circuit), 1) => {
                edge.registry.end_watches();
                edge.publish(&circuit).await;
            }
            (Some(circuit), _) => {
                edge.publish_closed(&circuit).await;
                others[place] = None;
            }
        }
        if change % 10 == 0 {
            edge.wait_applied().await;
            let socket = random.below(CIRCUITS) as usize;
            let text = format!("change {change}");
            assert_eq!(sockets[socket].echo(&text).await.as_deref(), Some(text.as_str()), "socket {socket}");
        }
    }
    edge.wait_applied().await;
    for (number, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(socket.echo("at the end").await.as_deref(), Some("at the end"), "socket {number}");
    }
}

/// Many connections at once against circuits that come and go: whatever is answered is an answer, and every request
/// to the circuit that stays is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_a_circuit_that_stays_never_fail_while_others_come_and_go() {
    let edge = TestEdge::start_with(|config| config.limits.drain = Duration::ZERO).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("stays", vec![origin.target()])).await;
    let client = testkit::client::keep_alive_client();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, staying, going) =
            (client.clone(), edge.url("stays.apps.test", "/"), edge.url("goes.apps.test", "/"));
        clients.spawn(async move {
            for _ in 0..60 {
                assert_eq!(client.get(&staying).send().await.expect("answered").status(), 200);
                // Its circuit ends with no drain time: the connection may be cut, and that is all.
                if let Ok(response) = client.get(&going).send().await {
                    assert!([200, 404].contains(&response.status().as_u16()), "{}", response.status());
                }
            }
        });
    }
    for _ in 0..40 {
        let circuit = by_host("goes", vec![origin.target()]);
        edge.serve(&circuit).await;
        edge.close(&circuit).await;
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client fails");
    }
}
