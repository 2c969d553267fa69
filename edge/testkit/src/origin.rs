//! An application to be proxied: it says back what it received.
//!
//! | path | answer |
//! |---|---|
//! | set by [`Origin::answer`] | those bytes |
//! | `/slow…` | as below, but only after [`Origin::release`] |
//! | `/ws…` with an upgrade | a WebSocket that sends every message back |
//! | `/echo…` with an upgrade | the protocol that is asked for, and every byte back |
//! | anything else | JSON: `name`, `method`, `path`, `headers` (in order), `body` |

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use entities::target::Target;
use tokio::sync::Semaphore;

pub use crate::http::Request;
use crate::http::{Answer, Handler, Server, answer};
pub use crate::target::target;

/// A running origin; it ends when it is dropped.
#[derive(Debug)]
pub struct Origin {
    server: Server,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    name: String,
    requests: Mutex<Vec<Request>>,
    received: Mutex<Vec<u8>>,
    answers: Mutex<HashMap<String, Vec<u8>>>,
    slow: Semaphore,
}

impl Origin {
    /// An origin that calls itself `name`.
    pub async fn start(name: &str) -> Self {
        Self::start_at(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// The same at an address, where another one was before perhaps.
    pub async fn start_at(name: &str, address: SocketAddr) -> Self {
        let state = Arc::new(State {
            name: name.to_owned(),
            requests: Mutex::default(),
            received: Mutex::default(),
            answers: Mutex::default(),
            slow: Semaphore::new(0),
        });
        Self { server: Server::start_at(address, Arc::clone(&state)).await, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The same as a circuit says it.
    pub fn target(&self) -> Target {
        target("127.0.0.1", self.address().port())
    }

    /// How many requests to `path` it has received so far.
    pub fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| request.path == path).count()
    }

    /// What it has received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().expect("no test thread panics with it").clone()
    }

    /// Every byte that it has received so far, from all connections.
    pub fn received(&self) -> Vec<u8> {
        self.state.received.lock().expect("no test thread panics with it").clone()
    }

    /// Lets one request to `/slow` go on.
    pub fn release(&self) {
        self.state.slow.add_permits(1);
    }

    /// From now on requests to `path` are answered with these bytes, and then the connection is closed.
    pub fn answer(&self, path: &str, bytes: &[u8]) {
        self.state.answers.lock().expect("no test thread panics with it").insert(path.to_owned(), bytes.to_owned());
    }
}

impl Handler for State {
    fn note(&self, bytes: &[u8]) {
        self.received.lock().expect("no test thread panics with it").extend_from_slice(bytes);
    }

    async fn handle(&self, request: Request) -> Answer {
        self.requests.lock().expect("no test thread panics with it").push(request.clone());
        let path = request.path.split('?').next().unwrap_or_default();
        let set = self.answers.lock().expect("no test thread panics with it").get(path).cloned();
        if let Some(bytes) = set {
            return Answer::Last(bytes);
        }
        if path.starts_with("/ws") && request.header("upgrade").is_some() {
            return Answer::WebSocketEcho;
        }
        if path.starts_with("/echo") && request.header("upgrade").is_some() {
            return Answer::Echo;
        }
        if path.starts_with("/slow") {
            self.slow.acquire().await.expect("never closed").forget();
        }
        let headers: Vec<[&str; 2]> =
            request.headers.iter().map(|(name, value)| [name.as_str(), value.as_str()]).collect();
        let body = serde_json::json!({
            "name": self.name, "method": request.method, "path": request.path, "headers": headers,
            "body": String::from_utf8_lossy(&request.body),
        });
        Answer::Bytes(answer("200 OK", "application/json", body.to_string().as_bytes()))
    }
}
