//! An edge, and its clients.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HOST;
use testkit::websocket::WebSocket;

use crate::process::Process;

/// An edge.
#[derive(Debug)]
pub struct Edge {
    /// Its name.
    pub id: String,
    /// Where subdomains and the worker API are.
    pub address: SocketAddr,
    /// The process.
    pub process: Process,
    client: reqwest::Client,
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: String,
}

// === impl Edge ===

impl Edge {
    /// One that serves at `address` when `process` runs.
    pub fn new(id: String, address: SocketAddr, process: Process) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
        Self { id, address, process, client }
    }

    /// Asks for `host` at this edge, whatever the DNS would say.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn get(&self, host: &str) -> Result<Answer, reqwest::Error> {
        self.ask(host, "/").await
    }

    /// Asks for a path of the worker API; needs no key for health, and none from loopback for metrics and status.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn api(&self, path: &str) -> Result<Answer, reqwest::Error> {
        self.ask(&self.address.to_string(), path).await
    }

    async fn ask(&self, host: &str, path: &str) -> Result<Answer, reqwest::Error> {
        let reply = self.client.get(format!("http://{}{path}", self.address)).header(HOST, host).send().await?;
        Ok(Answer { status: reply.status(), body: reply.text().await? })
    }

    /// Asks at a port of a circuit.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn get_port(&self, port: u16) -> Result<Answer, reqwest::Error> {
        let reply = self.client.get(format!("http://{}:{port}/", self.address.ip())).send().await?;
        Ok(Answer { status: reply.status(), body: reply.text().await? })
    }

    /// Opens a WebSocket of a circuit.
    pub async fn websocket(&self, host: &str) -> WebSocket {
        WebSocket::open(self.address, host, "/ws").await.expect("a WebSocket")
    }

    /// Opens a WebSocket at a port of a circuit.
    pub async fn port_websocket(&self, port: u16) -> WebSocket {
        let address = SocketAddr::new(self.address.ip(), port);
        WebSocket::open(address, &address.to_string(), "/ws").await.expect("a WebSocket")
    }

    /// Why it is not sure of what it serves, or `Some(None)` if it is; `None` if it is not ready.
    pub async fn stale(&self) -> Option<Option<String>> {
        let answer = self.api("/health/readyz").await.ok().filter(|answer| answer.status == StatusCode::OK)?;
        let reason = answer.body.split("\"reason\":\"").nth(1).and_then(|rest| rest.split('"').next());
        Some(reason.map(str::to_owned))
    }

    /// One number of its metrics: name and labels as Prometheus writes them.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.api("/metrics").await.expect("the edge answers").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).parse().expect("a number")
    }
}
