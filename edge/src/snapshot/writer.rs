//! Writes the journal to the disk, on a thread of its own.
//!
//! Invariant: what was noted is on disk a second later, or an error was logged and counted and it is tried again.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::SnapshotMetrics;
use super::journal::{Journal, Round};
use super::log::Log;
use crate::metrics::as_gauge;

/// How long changes are collected before they are written; with the time that writing takes it stays below a second.
const WRITE_INTERVAL: Duration = Duration::from_millis(500);

/// The longest wait between attempts to write to a disk that does not take anything.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Everything the thread has.
pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) journal: Arc<Journal>,
    pub(super) metrics: Arc<SnapshotMetrics>,
    /// Dropped last, so that no other edge opens the file before.
    pub(super) lock: File,
}

// === impl Writer ===

impl Writer {
    /// Starts the thread; the receiver is told when it has ended.
    pub(super) fn start(mut self) -> std::io::Result<oneshot::Receiver<()>> {
        let (ended, has_ended) = oneshot::channel();
        std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            self.run();
            drop(self.log);
            drop(self.lock);
            // Nobody may want to know.
            let _ = ended.send(());
        })?;
        Ok(has_ended)
    }

    fn run(&mut self) {
        let (mut last, mut interval) = (Instant::now(), Duration::ZERO);
        loop {
            let Round { changes, keys, position, is_last } = self.journal.next_round(last, interval);
            last = Instant::now();
            let written = self.log.append(&changes, keys.as_deref(), position);
            let outcome = match written {
                Ok(()) => {
                    self.journal.confirm();
                    self.metrics.writes.inc();
                    self.log.compact_if_due()
                }
                Err(error) => {
                    self.journal.put_back(changes, keys);
                    Err(error)
                }
            };
            self.metrics.bytes.set(as_gauge(self.log.bytes()));
            interval = match outcome {
                Ok(()) => WRITE_INTERVAL,
                Err(error) => {
                    self.metrics.errors.inc();
                    let wait = interval.max(WRITE_INTERVAL).saturating_mul(2).min(MAX_RETRY_INTERVAL);
                    tracing::error!(%error, ?wait, "the snapshot cannot be written, serving goes on without");
                    wait
                }
            };
            if is_last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use entities::clock::SystemClock;
    use entities::ids::{Epoch, InstallationId, Revision};

    use super::*;
    use crate::metrics::Metrics;
    use crate::position::Followed;

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_counted_and_nothing_is_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = SnapshotMetrics::register(&Metrics::default()).expect("valid names");
        let journal = Arc::new(Journal::new(&[], Arc::new(SystemClock)));
        let mut log = Log::open(folder.path()).expect("it opens");
        log.make_read_only(folder.path());
        let lock = tempfile::tempfile().expect("a file");
        let writer = Writer { log, journal: Arc::clone(&journal), metrics: Arc::clone(&metrics), lock };
        let has_ended = writer.start().expect("a thread");
        journal.advance(Followed {
            installation_id: InstallationId::random(),
            epoch: Epoch::random(),
            revision: Revision(1),
        });
        journal.set_following(true);
        testkit::wait::wait_until("two errors", async || metrics.errors.get() >= 2).await;
        journal.stop();
        testkit::wait::within("the end of the thread", has_ended).await.expect("told");
        assert_eq!((metrics.writes.get(), journal.age_s()), (0, None));
    }
}
