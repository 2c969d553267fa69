//! One question to a worker: how far are you?
//!
//! Invariant: a question ends; it takes at most the time that the worker may hold it and [`GRACE`].

use std::sync::Arc;
use std::time::Duration;

use entities::ids::{AuthorityName, Epoch, Revision};
use entities::worker::SyncReport;

use crate::keys::ApiKeys;

/// Beyond the time that the worker may hold a question.
const GRACE: Duration = Duration::from_secs(2);

/// An answer with a thousand refusals is 200 KiB.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The worker cannot be reached or broke off.
    #[error("the worker cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// The worker does not know our key, or is something else.
    #[error("the worker answered with status {0}")]
    Status(u16),
    /// The key that both knew was taken away.
    #[error("no worker key is configured for authority {0}")]
    NoKey(AuthorityName),
    /// The answer does not read.
    #[error("the worker's answer does not read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The answer is too long.
    #[error("the worker's answer has {0} bytes")]
    TooLong(usize),
}

/// Asks one worker.
#[derive(Clone)]
pub struct Asker {
    client: reqwest::Client,
    url: String,
    keys: Arc<ApiKeys>,
    authority: AuthorityName,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Asker").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Asker {
    /// Asks the worker of `authority` whose API is at `api_url`, with the key that is the first one when it asks.
    pub fn new(client: reqwest::Client, api_url: &str, keys: Arc<ApiKeys>, authority: AuthorityName) -> Self {
        Self { client, url: format!("{}/v2/sync", api_url.trim_end_matches('/')), keys, authority }
    }

    /// Asks; the worker may wait for up to `hold` until it can say yes.
    pub async fn ask(&self, epoch: Epoch, revision: Revision, hold: Duration) -> Result<SyncReport, AskError> {
        let url = format!("{}?epoch={epoch}&revision={revision}&timeout_ms={}", self.url, hold.as_millis());
        self.get(&url, hold + GRACE).await
    }

    /// Asks who answers there, without waiting for anything.
    pub async fn ask_who(&self) -> Result<SyncReport, AskError> {
        self.get(&self.url, GRACE).await
    }

    async fn get(&self, url: &str, limit: Duration) -> Result<SyncReport, AskError> {
        let secret = self.keys.worker_secret(&self.authority).ok_or_else(|| AskError::NoKey(self.authority.clone()))?;
        let mut response = self.client.get(url).bearer_auth(secret).timeout(limit).send().await?;
        if !response.status().is_success() {
            return Err(AskError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(AskError::TooLong(body.len()));
            }
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
