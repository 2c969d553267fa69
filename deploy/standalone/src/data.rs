//! The data folder: its lock, the database, the API keys.
//!
//! Invariant: the folder and the keys are readable by their owner alone, and one process at a time uses a folder.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be read or written.
    #[error("the data folder {path} cannot be used: {error}")]
    Folder {
        /// Which file or folder.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// Another process uses it.
    #[error("another appproxy uses the data folder {0}; choose another with --data")]
    InUse(PathBuf),
    /// No random numbers for a key.
    #[error("no random numbers for a key: {0}")]
    Random(#[from] openssl::error::ErrorStack),
}

/// The keys of a standalone proxy.
#[derive(Clone)]
pub struct Keys {
    /// Opens and closes circuits.
    pub manager: String,
    /// Only looks.
    pub read: String,
    /// Between the coordinator and the edge.
    pub worker: String,
    /// Signs tickets and tokens of private circuits.
    pub signing: String,
}

/// An open data folder; the lock ends with it.
pub struct Data {
    dir: PathBuf,
    keys: Keys,
    _lock: File,
}

/// Where the data folder is when nobody says.
pub fn default_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    base.map(|base| base.join("appproxy"))
}

// === impl Data ===

impl Data {
    /// Opens a data folder, making what is missing.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        let dir = std::path::absolute(dir).map_err(|error| folder(dir, error))?;
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| folder(&dir, error))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| folder(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataError::InUse(dir)),
            Err(TryLockError::Error(error)) => return Err(folder(&lock_path, error)),
        }
        let keys = Keys {
            manager: load_or_make(&dir.join("api.key"))?,
            read: load_or_make(&dir.join("read.key"))?,
            worker: load_or_make(&dir.join("worker.key"))?,
            signing: load_or_make(&dir.join("signing.keys"))?,
        };
        Ok(Self { dir, keys, _lock: lock })
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where the manager's key lies.
    pub fn manager_key_path(&self) -> PathBuf {
        self.dir.join("api.key")
    }

    /// The database in this folder.
    pub fn database_url(&self) -> String {
        format!("sqlite://{}?mode=rwc", self.dir.join("appproxy.db").display())
    }
}

fn folder(path: &Path, error: io::Error) -> DataError {
    DataError::Folder { path: path.to_owned(), error }
}

fn load_or_make(path: &Path) -> Result<String, DataError> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(folder(path, error)),
    }
    let mut random = [0u8; 32];
    openssl::rand::rand_bytes(&mut random)?;
    let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write_secret(path, &key).map_err(|error| folder(path, error))?;
    Ok(key)
}

/// Writes beside the file and renames, so that a crash leaves a whole key or none.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_for_the_owner_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("data");
        let first = Data::open(&path).expect("opens").keys().manager.clone();
        let mode = |name: &str| std::fs::metadata(path.join(name)).expect("exists").permissions().mode() & 0o777;
        assert_eq!(mode("api.key"), 0o600);
        assert_eq!(mode("worker.key"), 0o600);
        assert_eq!(mode("signing.keys"), 0o600);
        assert_eq!(mode(""), 0o700);
        let second = Data::open(&path).expect("opens again").keys().manager.clone();
        assert_eq!(first, second);
        assert_eq!(first.len(), 64);
    }

    #[test]
    fn a_folder_is_used_by_one_process() {
        let dir = tempfile::tempdir().expect("a folder");
        let _first = Data::open(dir.path()).expect("opens");
        assert!(matches!(Data::open(dir.path()), Err(DataError::InUse(_))));
    }
}
