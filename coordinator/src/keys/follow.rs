//! Follows the file of API keys: what it says now is what is accepted.
//!
//! Invariant: a file that has faults or cannot be read changes nothing, and each of its states is complained about once.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssl::sha::sha256;
use tokio::io::AsyncReadExt;

use super::{ApiKeys, file};
use crate::metrics::Metrics;

/// How often the file is read. It is short, and its time of change tells nothing when it is replaced within a tick of
/// the file system.
const INTERVAL: Duration = Duration::from_secs(1);

/// A file of 4,000 keys with names.
const MAX_FILE_BYTES: u64 = 512 * 1024;

/// Who may read the file but its owner.
const OTHERS: u32 = 0o077;

/// Follows `path` for ever.
pub(crate) async fn run(path: PathBuf, keys: Arc<ApiKeys>, metrics: Metrics) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut seen = None;
    loop {
        ticks.tick().await;
        let read = read(&path).await;
        // A digest, so that no second copy of the keys lies about.
        let state = match &read {
            Ok(found) => Ok((sha256(found.text.as_bytes()), found.mode)),
            Err(error) => Err(error.to_string()),
        };
        if seen.as_ref() == Some(&state) {
            continue;
        }
        seen = Some(state);
        let result = match read {
            Ok(found) => take_up(&path, &found, &keys),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the API keys cannot be read; the known ones stay");
                "unreadable"
            }
        };
        metrics.key_files_total.with_label_values(&[result]).inc();
    }
}

struct Found {
    text: String,
    mode: u32,
}

async fn read(path: &Path) -> io::Result<Found> {
    let file = tokio::fs::File::open(path).await?;
    let mode = file.metadata().await?.permissions().mode();
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).await?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
    }
    Ok(Found { text, mode })
}

fn take_up(path: &Path, found: &Found, keys: &ApiKeys) -> &'static str {
    let path = path.display();
    if found.mode & OTHERS != 0 {
        // Containers mount secrets like that, so it is no reason to refuse them.
        tracing::warn!(%path, mode = format!("{:03o}", found.mode & 0o777), "others may read the API keys");
    }
    match file::parse(&found.text) {
        Ok(read) => {
            let count = read.len();
            if keys.replace(read) {
                tracing::info!(%path, count, "the API keys have changed");
            }
            "accepted"
        }
        Err(faults) => {
            tracing::error!(%path, faults = faults.join("; "), "the API keys have faults; the known ones stay");
            "faulty"
        }
    }
}
