//! Follows the file of API keys: what it says now is what is accepted.
//!
//! Invariant: a file that has faults or cannot be read changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use program::follow::{FollowedFile, INTERVAL};

use super::{ApiKeys, file};
use crate::metrics::Metrics;

/// Follows `path` for ever.
pub(crate) async fn run(path: PathBuf, keys: Arc<ApiKeys>, metrics: Metrics) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let shown = path.display().to_string();
    let mut followed = FollowedFile::new(path);
    loop {
        ticks.tick().await;
        let result = match followed.look().await {
            None => continue,
            Some(Ok(text)) => take_up(&shown, text, &keys),
            Some(Err(error)) => {
                tracing::error!(path = shown, error, "the API keys cannot be read; the known ones stay");
                "unreadable"
            }
        };
        metrics.key_files_total.with_label_values(&[result]).inc();
    }
}

fn take_up(path: &str, text: &str, keys: &ApiKeys) -> &'static str {
    match file::parse(text) {
        Ok(read) => {
            let count = read.len();
            if keys.replace(read) {
                tracing::info!(path, count, "the API keys have changed");
            }
            "accepted"
        }
        Err(faults) => {
            tracing::error!(path, faults = faults.join("; "), "the API keys have faults; the known ones stay");
            "faulty"
        }
    }
}
