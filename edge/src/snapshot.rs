//! What the edge serves, on disk: for a start while the registry cannot be had or cannot be trusted.
//!
//! `<data_dir>/circuits.snapshot` is a log of what was applied (`snapshot/format.rs` has its form). After a crash at most
//! the changes of the last second are missing.
//!
//! Invariant: one process uses a data folder at a time; the disk never holds up serving or applying.

mod format;
mod journal;
mod log;
mod writer;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use entities::circuit::Versioned;
use entities::clock::SharedClock;
use entities::token::PublicKey;
use tokio::sync::oneshot;

use crate::metrics::{Counter, Gauge, as_gauge, metrics};
use crate::position::Followed;
pub(crate) use journal::Journal;
use log::Log;
use writer::Writer;

/// How long the last write may hold up the end of the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

metrics! {
    /// What is counted of the snapshot.
    pub(crate) struct SnapshotMetrics {
        writes: Counter = ("snapshot_writes_total", "Times that the snapshot was written"),
        errors: Counter = ("snapshot_errors_total", "Times that it could not be written"),
        bytes: Gauge = ("snapshot_bytes", "Size of the snapshot"),
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Another process has the folder.
    #[error("another edge uses the data folder {0}")]
    InUse(PathBuf),
    /// The folder or its files cannot be used.
    #[error("the data folder {folder} cannot be used: {error}")]
    Io {
        /// Which folder.
        folder: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// The snapshot while it is written; dropping it ends the writing.
pub(crate) struct Snapshot {
    journal: Arc<Journal>,
    has_ended: Option<oneshot::Receiver<()>>,
}

/// What the snapshot said at the start.
pub(crate) struct Remembered {
    /// The circuits that were served.
    pub(crate) circuits: Vec<Versioned>,
    /// The public keys that were accepted.
    pub(crate) keys: Vec<PublicKey>,
    /// Where the edge stood, and how long ago that was known to be right.
    pub(crate) followed: Option<(Followed, Duration)>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Reads the snapshot in `folder`, which is made if it is not there, and begins to write it.
    ///
    /// # Errors
    /// [`SnapshotError`] if the folder cannot be used; what is in the snapshot is no reason.
    pub(crate) fn open(
        folder: &Path,
        clock: SharedClock,
        metrics: Arc<SnapshotMetrics>,
    ) -> Result<(Self, Remembered), SnapshotError> {
        let failed = |error| SnapshotError::Io { folder: folder.to_owned(), error };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
        let lock: File = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SnapshotError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let log = Log::open(folder).map_err(failed)?;
        let circuits = log.circuits().map_err(failed)?;
        let keys = log.keys().to_vec();
        let followed = log.position().map(|saved| {
            let followed =
                Followed { installation_id: saved.installation_id, epoch: saved.epoch, revision: saved.revision };
            // A clock that went back says nothing about the age.
            let age_ms = u64::try_from(clock.now_ms().saturating_sub(saved.confirmed_at_ms)).unwrap_or(0);
            (followed, Duration::from_millis(age_ms))
        });
        let age = followed.map(|(_, age)| age);
        tracing::info!(circuits = circuits.len(), bytes = log.bytes(), ?age, "snapshot read");
        metrics.bytes.set(as_gauge(log.bytes()));
        let journal = Arc::new(Journal::new(&circuits, clock));
        let writer = Writer { log, journal: Arc::clone(&journal), metrics, lock };
        let has_ended = writer.start().map_err(failed)?;
        Ok((Self { journal, has_ended: Some(has_ended) }, Remembered { circuits, keys, followed }))
    }

    /// Where changes are noted.
    pub(crate) fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Writes what is left and gives the folder back.
    pub(crate) async fn close(mut self) {
        self.journal.stop();
        if let Some(has_ended) = self.has_ended.take()
            && tokio::time::timeout(CLOSE_TIMEOUT, has_ended).await.is_err()
        {
            tracing::error!("the disk does not take the last of the snapshot");
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.journal.stop();
    }
}

#[cfg(test)]
mod tests {
    use entities::clock::SystemClock;

    use super::*;
    use crate::metrics::Metrics;

    fn open(folder: &Path) -> Result<(Snapshot, Remembered), SnapshotError> {
        let metrics = SnapshotMetrics::register(&Metrics::default()).expect("valid names");
        Snapshot::open(folder, Arc::new(SystemClock), metrics)
    }

    #[tokio::test]
    async fn a_second_edge_does_not_open_the_folder_until_the_first_has_closed_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("made");
        let (first, _) = open(&folder).expect("it opens");
        let error = open(&folder).err().expect("it is in use");
        assert!(matches!(error, SnapshotError::InUse(_)), "{error}");
        first.close().await;
        assert!(open(&folder).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = open(&file.path().join("below")).err().expect("it is no folder");
        assert!(error.to_string().contains("below"), "{error}");
    }
}
