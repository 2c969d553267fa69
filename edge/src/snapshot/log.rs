//! The snapshot's file: read at the start, then appended to, and rewritten when most of it is dead.
//!
//! Invariant: what was appended before [`Log::append`] returned survives a crash; what came after the last good record
//! of a file is cut off before anything is written. Values are not kept in memory.

mod chunks;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use entities::circuit::Versioned;
use entities::ids::CircuitKey;
use entities::registry::layout::CircuitState;
use entities::token::PublicKey;

use super::format::{self, HEAD_BYTES, HEADER, Record, SavedPosition, Step};
use chunks::Chunks;

/// Its name in the data folder.
const FILE_NAME: &str = "circuits.snapshot";

/// A file up to this size is never rewritten.
const MIN_COMPACTION_BYTES: u64 = 1 << 20;

/// Only the edge may read it: it holds the addresses of targets.
const MODE: u32 = 0o600;

/// What is to become of a circuit: its envelope, or `None` if it has ended.
pub(super) type Change = (CircuitKey, Option<Vec<u8>>);

/// The open file.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    file: File,
    /// The end of the last record that is certain to be on disk.
    end: u64,
    /// Whether something may stand after that.
    has_tail: bool,
    index: HashMap<CircuitKey, Span>,
    live_bytes: u64,
    keys: Vec<PublicKey>,
    position: Option<SavedPosition>,
}

/// Where a record is.
#[derive(Debug, Clone, Copy)]
struct Span {
    offset: u64,
    payload_bytes: u32,
}

// === impl Log ===

impl Log {
    /// Opens the snapshot in `folder`, or begins one.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE_NAME);
        let mut file = open_file(&path, false)?;
        let mut header = Vec::with_capacity(HEADER.len());
        file.by_ref().take(HEADER.len() as u64).read_to_end(&mut header)?;
        // A crash may have come between making the file and writing its header.
        let is_begun = !HEADER.starts_with(&header) || header.len() == HEADER.len();
        if header != HEADER && is_begun {
            let aside = folder.join(format!("{FILE_NAME}.unreadable"));
            tracing::error!(path = %path.display(), aside = %aside.display(), "the snapshot is of no known format");
            fs::rename(&path, &aside)?;
            file = open_file(&path, false)?;
        }
        let mut log = Self {
            folder: folder.to_owned(),
            file,
            end: HEADER.len() as u64,
            has_tail: false,
            index: HashMap::new(),
            live_bytes: 0,
            keys: Vec::new(),
            position: None,
        };
        if header == HEADER {
            log.replay()?;
        } else {
            log.file.write_all_at(&HEADER, 0)?;
            log.file.sync_all()?;
            File::open(folder)?.sync_all()?;
        }
        Ok(log)
    }

    /// The size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Where the edge stood when it last wrote.
    pub(super) fn position(&self) -> Option<SavedPosition> {
        self.position
    }

    /// The public keys that were accepted when it last wrote.
    pub(super) fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Every circuit that is alive; one that this program does not understand is left out.
    pub(super) fn circuits(&self) -> io::Result<Vec<Versioned>> {
        let mut spans: Vec<Span> = self.index.values().copied().collect();
        spans.sort_unstable_by_key(|span| span.offset);
        let mut circuits = Vec::with_capacity(spans.len());
        for span in spans {
            let mut payload = vec![0; span.payload_bytes as usize];
            self.file.read_exact_at(&mut payload, span.offset + HEAD_BYTES as u64)?;
            match CircuitState::decode(&payload) {
                Ok(CircuitState::Open(versioned)) => circuits.push(*versioned),
                Ok(CircuitState::Closed { .. }) => {}
                Err(error) => tracing::warn!(%error, "a circuit of the snapshot cannot be read"),
            }
        }
        Ok(circuits)
    }

    /// Writes `changes`, the public keys if they have changed and then `position`, and waits until the disk has them.
    pub(super) fn append(
        &mut self,
        changes: &[Change],
        keys: Option<&[PublicKey]>,
        position: Option<SavedPosition>,
    ) -> io::Result<()> {
        if self.has_tail {
            self.file.set_len(self.end)?;
        }
        self.has_tail = true;
        let mut writer = Chunks::new(&self.file, self.end);
        let mut spans = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            match value {
                Some(value) => spans.push((key, Some(writer.push(value)?))),
                None if self.index.contains_key(key) => {
                    writer.push(&format::gone(key))?;
                    spans.push((key, None));
                }
                None => {}
            }
        }
        if let Some(keys) = keys {
            writer.push(&format::keys(keys))?;
        }
        if let Some(position) = &position {
            writer.push(&format::position(position))?;
        }
        let end = writer.finish()?;
        self.file.sync_data()?;
        self.end = end;
        self.has_tail = false;
        for (key, span) in spans {
            self.note(key.clone(), span);
        }
        if let Some(keys) = keys {
            self.keys = keys.to_vec();
        }
        self.position = position.or(self.position);
        Ok(())
    }

    /// Rewrites the file if most of it is dead.
    pub(super) fn compact_if_due(&mut self) -> io::Result<()> {
        let is_due = self.end > MIN_COMPACTION_BYTES && self.end - self.live_bytes > self.live_bytes;
        if is_due { self.compact() } else { Ok(()) }
    }

    /// Rewrites the file with what is alive.
    pub(super) fn compact(&mut self) -> io::Result<()> {
        let (path, new_path) = (self.folder.join(FILE_NAME), self.folder.join(format!("{FILE_NAME}.new")));
        let file = open_file(&new_path, true)?;
        let mut spans: Vec<(CircuitKey, Span)> = self.index.iter().map(|(key, span)| (key.clone(), *span)).collect();
        spans.sort_unstable_by_key(|(_, span)| span.offset);
        file.write_all_at(&HEADER, 0)?;
        let mut writer = Chunks::new(&file, HEADER.len() as u64);
        let mut payload = Vec::new();
        for (_, span) in &mut spans {
            payload.resize(span.payload_bytes as usize, 0);
            self.file.read_exact_at(&mut payload, span.offset + HEAD_BYTES as u64)?;
            *span = writer.push(&payload)?;
        }
        if !self.keys.is_empty() {
            writer.push(&format::keys(&self.keys))?;
        }
        if let Some(position) = &self.position {
            writer.push(&format::position(position))?;
        }
        let end = writer.finish()?;
        file.sync_all()?;
        fs::rename(&new_path, &path)?;
        tracing::debug!(before = self.end, after = end, circuits = spans.len(), "snapshot rewritten");
        // From here on this is the file, whether the folder is certain to say so after a crash or not.
        (self.file, self.end, self.has_tail) = (file, end, false);
        self.index = spans.into_iter().collect();
        File::open(&self.folder)?.sync_all()
    }

    /// From now on every write fails.
    #[cfg(test)]
    pub(super) fn make_read_only(&mut self, folder: &Path) {
        self.file = File::open(folder.join(FILE_NAME)).expect("it is there");
    }

    fn replay(&mut self) -> io::Result<()> {
        let mut reader = BufReader::new(self.file.try_clone()?);
        let mut payload = Vec::new();
        loop {
            match format::read(&mut reader, &mut payload)? {
                Step::Record => {}
                Step::End => return Ok(()),
                Step::Torn => {
                    let bytes = self.file.metadata()?.len();
                    tracing::warn!(bytes, good = self.end, "the end of the snapshot is torn, it is cut off");
                    return self.file.set_len(self.end);
                }
            }
            let payload_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            let span = Span { offset: self.end, payload_bytes };
            self.end += span.record_bytes();
            match Record::of(&payload) {
                Record::Put(key) => self.note(key, Some(span)),
                Record::Gone(key) => self.note(key, None),
                Record::Keys(keys) => self.keys = keys,
                Record::Position(position) => self.position = Some(position),
                Record::Unknown => {}
            }
        }
    }

    fn note(&mut self, key: CircuitKey, span: Option<Span>) {
        let before = match span {
            Some(span) => {
                self.live_bytes += span.record_bytes();
                self.index.insert(key, span)
            }
            None => self.index.remove(&key),
        };
        self.live_bytes -= before.map_or(0, Span::record_bytes);
    }
}

// === impl Span ===

impl Span {
    fn record_bytes(self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.payload_bytes)
    }
}

fn open_file(path: &Path, must_be_empty: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(must_be_empty).mode(MODE).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
