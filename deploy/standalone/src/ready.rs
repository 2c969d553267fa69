//! Says when everything answers.
//!
//! Invariant: the line that begins with `ready` is printed once, after API and edge have both said that they are
//! ready and the edge is known to the coordinator as alive.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::data::Data;
use crate::serve::{Config, Listeners, ServeError, local};

/// How often readiness is asked for.
const INTERVAL: Duration = Duration::from_millis(10);

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Addresses {
    api: SocketAddr,
    edge: SocketAddr,
    domain: String,
    ports: String,
    key_path: PathBuf,
}

// === impl Addresses ===

impl Addresses {
    /// The addresses that `config` and `listeners` make.
    pub fn of(config: &Config, listeners: &Listeners, data: &Data) -> Result<Self, ServeError> {
        Ok(Self {
            api: local(listeners.api_address()?),
            edge: local(listeners.edge_address()?),
            domain: config.domain.to_string(),
            ports: config.ports.to_string(),
            key_path: data.manager_key_path(),
        })
    }
}

/// Waits until everything answers, then prints the line and an example.
pub async fn announce(addresses: Addresses, read_key: String) {
    let started = Instant::now();
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build() else {
        tracing::error!("the client that looks for readiness cannot be built");
        return;
    };
    while !is_ready(&client, &addresses, &read_key).await {
        tokio::time::sleep(INTERVAL).await;
    }
    let text = message(&addresses, started.elapsed());
    // Whoever closed our output does not want to know.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

async fn is_ready(client: &reqwest::Client, addresses: &Addresses, read_key: &str) -> bool {
    let answers = async |url: String| client.get(url).send().await.is_ok_and(|reply| reply.status().is_success());
    if !answers(format!("http://{}/health/readyz", addresses.api)).await
        || !answers(format!("http://{}/health/readyz", addresses.edge)).await
    {
        return false;
    }
    let status = client.get(format!("http://{}/status", addresses.api)).bearer_auth(read_key).send().await;
    let Ok(status) = status else { return false };
    let Ok(body) = status.json::<serde_json::Value>().await else { return false };
    body.get("workers_alive").and_then(serde_json::Value::as_u64).is_some_and(|count| count > 0)
}

fn message(addresses: &Addresses, took: Duration) -> String {
    let Addresses { api, edge, domain, ports, key_path } = addresses;
    format!(
        "ready in {took:.0?}: API http://{api}, apps http://*.{domain}:{port} and ports {ports}\n\
         \n\
         Open a circuit for everybody to something that listens on this machine, port 8000 for example (`appproxy demo`):\n\
         \n\
         curl -s http://{api}/v2/circuits -H \"Authorization: Bearer $(cat '{key}')\" \\\n  \
         -d '{{\"session_id\":\"s1\",\"service\":\"demo\",\"access\":{{\"public\":true}},\
         \"targets\":[{{\"host\":\"127.0.0.1\",\"port\":8000}}]}}'\n\
         \n\
         and open the \"url\" of the answer in a browser. Without \"access\" a circuit is private and opens with a ticket or a token.\n",
        port = edge.port(),
        key = key_path.display(),
    )
}
