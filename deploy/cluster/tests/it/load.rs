//! Clients that go on while something happens: WebSockets that lose nothing, and requests of which none fails.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::edge::Edge;
use reqwest::header::HOST;
use testkit::wait::wait_until_for;
use testkit::websocket::WebSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often a WebSocket says something.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(50);

/// A restart of everything on a loaded machine.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);

/// Clients that go on until [`Load::finish`].
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    messages: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Counts {
    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }
}

// === impl Load ===

impl Load {
    pub(crate) fn new() -> Self {
        Self { stop: watch::channel(false).0, tasks: JoinSet::new(), counts: Arc::default() }
    }

    /// Lets WebSockets speak, numbered messages one after the other.
    pub(crate) fn speak(&mut self, sockets: Vec<WebSocket>) {
        for (name, mut socket) in sockets.into_iter().enumerate() {
            let (counts, stop) = (Arc::clone(&self.counts), self.stop.subscribe());
            self.tasks.spawn(async move {
                let mut ticks = tokio::time::interval(MESSAGE_INTERVAL);
                for number in 0.. {
                    ticks.tick().await;
                    let text = format!("{name}-{number}");
                    match socket.echo(&text).await {
                        Some(echo) if echo == text => counts.messages.fetch_add(1, Ordering::Relaxed),
                        other => return counts.fail(format!("socket {name} got {other:?} for message {number}")),
                    };
                    if *stop.borrow() {
                        return;
                    }
                }
            });
        }
    }

    /// Asks for `hosts` at `edges` in turn, so many times a second.
    pub(crate) fn ask(&mut self, edges: &[&Edge], hosts: Vec<String>, per_second: u64) {
        let edges: Vec<SocketAddr> = edges.iter().map(|edge| edge.address).collect();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let (counts, stop) = (Arc::clone(&self.counts), self.stop.subscribe());
        self.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_second).unwrap());
            let mut asking = JoinSet::new();
            for number in 0usize.. {
                ticks.tick().await;
                if *stop.borrow() {
                    break;
                }
                let (edge, host) = (edges[number % edges.len()], hosts[number / edges.len() % hosts.len()].clone());
                let (client, counts) = (client.clone(), Arc::clone(&counts));
                while asking.try_join_next().is_some() {}
                asking.spawn(async move {
                    let reply = client.get(format!("http://{edge}/")).header(HOST, &host).send().await;
                    let outcome = match reply {
                        Ok(reply) if reply.status().is_success() => {
                            reply.text().await.map(|_| ()).map_err(|e| e.to_string())
                        }
                        Ok(reply) => Err(reply.status().to_string()),
                        Err(error) => Err(format!("{error:?}")),
                    };
                    match outcome {
                        Ok(()) => drop(counts.requests.fetch_add(1, Ordering::Relaxed)),
                        Err(what) => counts.fail(format!("{host} at {edge}: {what}")),
                    }
                });
            }
            asking.join_all().await;
        });
    }

    /// Waits until so many more requests were answered, and so many more messages came back.
    pub(crate) async fn go_on(&self, requests: usize, messages: usize) {
        let counts = &self.counts;
        let now = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let (asked, spoken) = (now(&counts.requests) + requests, now(&counts.messages) + messages);
        wait_until_for("traffic to go on", PROGRESS_LIMIT, async || {
            self.assert_whole();
            now(&counts.requests) >= asked && now(&counts.messages) >= spoken
        })
        .await;
    }

    /// Stops, and fails if anything failed.
    pub(crate) async fn finish(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.assert_whole();
    }

    fn assert_whole(&self) {
        let failures = self.counts.failures.lock().unwrap();
        let mut kinds: HashMap<&str, usize> = HashMap::new();
        for failure in failures.iter() {
            *kinds.entry(failure).or_default() += 1;
        }
        assert!(failures.is_empty(), "{} failures: {kinds:#?}", failures.len());
    }
}
