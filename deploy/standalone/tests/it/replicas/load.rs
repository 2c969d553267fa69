//! Clients of the replicas: requests of which each notes who answered it, uploads that take their time, and WebSockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use testkit::client::keep_alive_client;
use testkit::websocket::WebSocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections that ask again and again.
const CONNECTIONS: usize = 64;

/// How often each of them asks: 320 requests a second in all.
const PAUSE: Duration = Duration::from_millis(200);

/// Uploads that are always under way, and into how many pieces each is cut.
const UPLOADS: usize = 9;
const PIECES: usize = 20;
const PIECE_PAUSE: Duration = Duration::from_millis(50);

/// What every second request uploads.
const CONTENT: &[u8] = &[b'x'; 2_048];

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) method: Method,
    /// Whether it was an upload in pieces.
    pub(crate) is_slow: bool,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Who answered, or what went wrong.
    pub(crate) result: Result<String, String>,
}

/// Clients that go on until [`Load::finish`].
pub(crate) struct Load {
    url: String,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

// === impl Outcome ===

impl Outcome {
    pub(crate) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }
}

// === impl Load ===

impl Load {
    /// Asks at `url`, which leads to `edge`.
    pub(crate) fn start(url: &str, edge: SocketAddr) -> Self {
        let mut load = Self {
            url: url.to_owned(),
            stop: watch::channel(false).0,
            tasks: JoinSet::new(),
            outcomes: Arc::default(),
        };
        for number in 0..CONNECTIONS {
            load.ask(number);
        }
        for _ in 0..UPLOADS {
            load.upload(edge);
        }
        load
    }

    /// One client with one connection.
    fn ask(&mut self, number: usize) {
        let (url, outcomes, stop) = (self.url.clone(), Arc::clone(&self.outcomes), self.stop.subscribe());
        self.tasks.spawn(async move {
            let client = keep_alive_client();
            let mut ticks = tokio::time::interval(PAUSE);
            for turn in number.. {
                ticks.tick().await;
                if *stop.borrow() {
                    return;
                }
                let (method, content) = match turn % 4 {
                    0 => (Method::GET, &b""[..]),
                    2 => (Method::PUT, CONTENT),
                    _ => (Method::POST, CONTENT),
                };
                let outcome = request(&client, method, &url, content).await;
                outcomes.lock().unwrap().push(outcome);
            }
        });
    }

    /// One client whose uploads take a second each.
    fn upload(&mut self, edge: SocketAddr) {
        let (url, outcomes, stop) = (self.url.clone(), Arc::clone(&self.outcomes), self.stop.subscribe());
        self.tasks.spawn(async move {
            let host = url.strip_prefix("http://").unwrap().trim_end_matches('/');
            while !*stop.borrow() {
                let began = Instant::now();
                let result = upload(edge, host).await;
                let outcome = Outcome { method: Method::POST, is_slow: true, began, ended: Instant::now(), result };
                outcomes.lock().unwrap().push(outcome);
            }
        });
    }

    /// What has come of everything so far.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.outcomes.lock().unwrap().clone()
    }

    /// How many requests that began after `since` each replica has answered.
    pub(crate) fn answered_since(&self, since: Instant) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for outcome in self.outcomes().iter().filter(|outcome| outcome.began >= since && !outcome.is_slow) {
            if let Ok(name) = &outcome.result {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
        counts
    }

    pub(crate) async fn finish(mut self) -> Vec<Outcome> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.outcomes()
    }
}

async fn request(client: &Client, method: Method, url: &str, content: &'static [u8]) -> Outcome {
    let began = Instant::now();
    let result = answer(client.request(method.clone(), url).body(content)).await;
    Outcome { method, is_slow: false, began, ended: Instant::now(), result }
}

/// Who answers.
async fn answer(request: reqwest::RequestBuilder) -> Result<String, String> {
    let response = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| format!("{status}, then {error:?}"))?;
    if status != 200 {
        return Err(format!("{status}: {text}"));
    }
    named(&text)
}

/// Uploads piece by piece; who answers.
async fn upload(edge: SocketAddr, host: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(edge).await.map_err(failed)?;
    let length = PIECES * CONTENT.len();
    let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(failed)?;
    for _ in 0..PIECES {
        tokio::time::sleep(PIECE_PAUSE).await;
        stream.write_all(CONTENT).await.map_err(failed)?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(failed)?;
    let (head, content) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(answer);
    }
    named(content)
}

/// The name in an echo.
fn named(echo: &str) -> Result<String, String> {
    let value: serde_json::Value = serde_json::from_str(echo).map_err(|error| format!("{error}: {echo}"))?;
    value["name"].as_str().map(str::to_owned).ok_or_else(|| format!("nobody: {echo}"))
}

/// A WebSocket that says something ten times a second, and notes when it was not answered.
pub(crate) struct Speaking {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<usize, String>>,
}

// === impl Speaking ===

impl Speaking {
    pub(crate) fn start(mut socket: WebSocket) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            for number in 0.. {
                ticks.tick().await;
                if *stopped.borrow() {
                    return Ok(number);
                }
                let text = number.to_string();
                match socket.echo(&text).await {
                    Some(echo) if echo == text => {}
                    other => return Err(format!("message {number} was answered with {other:?}")),
                }
            }
            Ok(0)
        });
        Self { stop, task }
    }

    /// Whether it has been cut off.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// How many messages were answered.
    pub(crate) async fn finish(self) -> Result<usize, String> {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}
