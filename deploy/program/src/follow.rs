//! A small file that may be replaced while a program runs: keys, above all.
//!
//! Invariant: each state of the file is told once, that it cannot be read included; nothing of it is in a log line.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;

/// How often to look. The files are short, and their time of change tells nothing when one is replaced within a tick of
/// the file system.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// 4,000 keys with names.
const MAX_FILE_BYTES: u64 = 512 * 1024;

/// Who may read a file but its owner.
const OTHERS: u32 = 0o077;

/// One file.
#[derive(Debug)]
pub struct FollowedFile {
    path: PathBuf,
    seen: Option<Result<State, String>>,
}

/// What it is at one time.
#[derive(Clone, PartialEq, Eq)]
struct State {
    text: String,
    mode: u32,
}

// === impl FollowedFile ===

impl FollowedFile {
    /// Follows the file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text, or why it cannot be read, if that is not what it was when this was asked before.
    pub async fn look(&mut self) -> Option<Result<&str, &str>> {
        let state = read(&self.path).await.map_err(|error| error.to_string());
        if self.seen.as_ref() == Some(&state) {
            return None;
        }
        if let Ok(state) = &state
            && state.mode & OTHERS != 0
        {
            // Containers mount secrets like that, so it is no reason to refuse them.
            let mode = format!("{:03o}", state.mode & 0o777);
            tracing::warn!(path = %self.path.display(), mode, "others may read this file of keys");
        }
        let seen = self.seen.insert(state);
        Some(seen.as_ref().map(|state| state.text.as_str()).map_err(String::as_str))
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("State").field("mode", &self.mode).finish_non_exhaustive()
    }
}

async fn read(path: &Path) -> io::Result<State> {
    let file = tokio::fs::File::open(path).await?;
    let mode = file.metadata().await?.permissions().mode();
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).await?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
    }
    Ok(State { text, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_state_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let mut file = FollowedFile::new(path.clone());
        assert!(file.look().await.is_some_and(|state| state.is_err()), "it is not there yet");
        assert_eq!(file.look().await, None);
        std::fs::write(&path, "one").expect("writes");
        assert_eq!(file.look().await, Some(Ok("one")));
        assert_eq!(file.look().await, None);
        // The same length within the same tick of the clock.
        std::fs::write(&path, "two").expect("writes");
        assert_eq!(file.look().await, Some(Ok("two")));
        std::fs::write(&path, vec![b'x'; 600 * 1024]).expect("writes");
        assert_eq!(file.look().await, Some(Err("the file is too large")));
        assert!(!format!("{file:?}").contains("two"));
    }
}
