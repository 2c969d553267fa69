//! How far an edge is, asked over `/v2/sync` as a coordinator asks.
//!
//! Invariant: `applied` is what the edge itself says, and an edge that refuses a circuit ends the measurement.

use std::net::SocketAddr;
use std::time::Duration;

use entities::ids::{Epoch, Revision};
use testkit::raw::RawClient;

/// How long the edge holds one question; below what the client waits for an answer.
const HOLD: Duration = Duration::from_secs(8);

/// Questions before it counts as stuck. The first comes while the edge may not have listed anything.
const MAX_QUESTIONS: usize = 8;

/// A connection to an edge's worker API.
#[derive(Debug)]
pub struct Asker {
    client: RawClient,
    worker_key: String,
}

impl Asker {
    /// Connects.
    pub async fn connect(edge: SocketAddr, worker_key: &str) -> Self {
        Self { client: RawClient::connect(edge).await, worker_key: worker_key.to_owned() }
    }

    /// Waits until the edge says that it has applied `revision`, and refused nothing.
    pub async fn wait_applied(&mut self, epoch: Epoch, revision: Revision) {
        let path = format!("/v2/sync?epoch={epoch}&revision={revision}&timeout_ms={}", HOLD.as_millis());
        let key = &self.worker_key;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
        for _ in 0..MAX_QUESTIONS {
            self.client.send(&request).await;
            let answer = self.client.answer().await;
            let report: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            let applied = report["applied"].as_u64().unwrap_or_default();
            assert_eq!(report["refused"].as_array().map(Vec::len), Some(0), "circuits were refused: {report}");
            if applied >= revision.0 {
                return;
            }
        }
        panic!("revision {revision} is not applied");
    }
}
