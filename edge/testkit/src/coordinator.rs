//! A coordinator that knows nothing but workers: it notes what edges tell it and answers what the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::http::{Answer, Handler, Request, Server, answer};

/// A running stub; it ends when it is dropped.
#[derive(Debug)]
pub struct StubCoordinator {
    server: Server,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Mutex<Vec<Call>>,
    statuses: Mutex<Statuses>,
}

/// What the stub answers from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    /// To `PUT`.
    pub register: u16,
    /// To `POST …/heartbeat`.
    pub heartbeat: u16,
}

impl Default for Statuses {
    fn default() -> Self {
        Self { register: 200, heartbeat: 204 }
    }
}

/// One thing that an edge said.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `PUT`, `POST` or `DELETE`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Value of `Authorization`.
    pub authorization: Option<String>,
    /// The body, `null` without one.
    pub body: serde_json::Value,
}

impl StubCoordinator {
    /// A stub that accepts everything.
    pub async fn start() -> Self {
        let state = Arc::<State>::default();
        Self { server: Server::start(Arc::clone(&state)).await, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// What it has heard so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().expect("no test thread panics with it").clone()
    }

    /// How often it has heard `method`.
    pub fn count(&self, method: &str) -> usize {
        self.calls().iter().filter(|call| call.method == method).count()
    }

    /// What it was told last about the target at `port` of a circuit: whether it works, or that nothing is known (`null`).
    pub fn target_health(&self, circuit_id: &str, port: u16) -> Option<serde_json::Value> {
        let reports = self.calls().into_iter().filter(|call| call.path.ends_with("/heartbeat"));
        let mut reports = reports.filter_map(|call| call.body["targets"].as_array().cloned()).flatten();
        let is_it = |report: &serde_json::Value| report["circuit_id"] == circuit_id && report["port"] == port;
        reports.rfind(is_it).map(|report| report["healthy"].clone())
    }

    /// Answers like this from now on.
    pub fn answer(&self, statuses: Statuses) {
        *self.state.statuses.lock().expect("no test thread panics with it") = statuses;
    }
}

impl Handler for State {
    async fn handle(&self, request: Request) -> Answer {
        let statuses = *self.statuses.lock().expect("no test thread panics with it");
        let status = match request.method.as_str() {
            "PUT" => statuses.register,
            "POST" => statuses.heartbeat,
            _ => 200,
        };
        let authorization = request.header("authorization").map(str::to_owned);
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        let call = Call { method: request.method, path: request.path, authorization, body };
        self.calls.lock().expect("no test thread panics with it").push(call);
        let content: &[u8] = if status == 204 { b"" } else { b"{}" };
        Answer::Bytes(answer(&format!("{status} Stub"), "application/json", content))
    }
}
