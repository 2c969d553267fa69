//! A manager: whoever opens and closes circuits through the coordinator's API.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::wait::wait_until;

/// Talks to a coordinator as a manager does.
#[derive(Debug, Clone)]
pub struct Manager {
    /// Where the API is.
    pub api: SocketAddr,
    key: String,
    client: reqwest::Client,
}

impl Manager {
    /// One that calls the API at `api` with `key`.
    pub fn new(api: SocketAddr, key: &str) -> Self {
        Self { api, key: key.to_owned(), client: crate::client::keep_alive_client() }
    }

    /// Waits until so many workers are alive.
    pub async fn wait_for_workers(&self, count: usize) {
        wait_until(&format!("{count} alive workers"), async || self.workers_alive().await == Some(count as u64)).await;
    }

    async fn workers_alive(&self) -> Option<u64> {
        let (status, body) = self.try_call("GET", "/status", None).await.ok()?;
        body["workers_alive"].as_u64().filter(|_| status == StatusCode::OK)
    }

    /// Any call of the API; `Null` for an empty answer.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.try_call(method, path, body).await.expect("the coordinator answers")
    }

    /// The same, for a coordinator that may be killed meanwhile.
    ///
    /// # Errors
    /// If there was no answer, or only a part of one.
    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("http://{}{path}", self.api)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let reply = request.timeout(Duration::from_secs(60)).send().await?;
        let status = reply.status();
        let text = reply.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Opens a circuit, which must answer `201`.
    pub async fn open(&self, body: Value) -> Value {
        let (status, circuit) = self.call("POST", "/v2/circuits", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{circuit}");
        circuit
    }

    /// Closes a circuit, which must answer `204`.
    pub async fn close(&self, key: &str) {
        let (status, body) = self.call("DELETE", &format!("/v2/circuits/{key}"), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    }
}

/// The body that opens a circuit to `targets` for everybody.
pub fn circuit(session: &str, service: &str, mode: &str, targets: &[SocketAddr]) -> Value {
    let targets: Vec<Value> =
        targets.iter().map(|target| json!({"host": target.ip().to_string(), "port": target.port()})).collect();
    json!({"session_id": session, "service": service, "frontend": {"mode": mode}, "targets": targets,
        "access": {"public": true}})
}

/// Host and port of a circuit's URL.
pub fn host_and_port(circuit: &Value) -> (String, u16) {
    let url: http::Uri = circuit["url"].as_str().expect("a URL").parse().expect("a URL");
    (url.authority().expect("a host").to_string(), url.port_u16().expect("a port"))
}
