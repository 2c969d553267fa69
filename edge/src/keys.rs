//! The worker keys: the one that the edge shows to coordinators, and those that coordinators may show to the edge.
//!
//! Invariant: comparing takes the same time whatever is presented. Files that cannot be used change nothing.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use openssl::sha::sha256;
use program::follow::{FollowedFile, INTERVAL};
use program::settings::lines_of_secrets;

use crate::config::Config;

/// The keys as they are now.
pub(crate) struct WorkerKeys(RwLock<Arc<Known>>);

struct Known {
    own: String,
    accepted: Vec<String>,
    digests: Vec<[u8; 32]>,
}

// === impl WorkerKeys ===

impl WorkerKeys {
    /// The keys that `config` names.
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let known = Known::new(config.worker_key.clone(), config.accepted_keys.clone());
        Arc::new(Self(RwLock::new(Arc::new(known))))
    }

    /// What the edge shows.
    pub(crate) fn own(&self) -> String {
        self.now().own.clone()
    }

    /// Whether a coordinator may show this.
    pub(crate) fn accepts(&self, presented: &[u8]) -> bool {
        let digest = sha256(presented);
        let known = self.now();
        // All of them, so that the time tells nothing of which one it was.
        known.digests.iter().fold(false, |is_one, known| openssl::memcmp::eq(known, &digest) | is_one)
    }

    /// Takes up what the files say whenever they change, for ever.
    pub(crate) async fn follow(self: Arc<Self>, key_file: Option<PathBuf>, accepted_file: Option<PathBuf>) {
        if key_file.is_none() && accepted_file.is_none() {
            return;
        }
        let (mut key_file, mut accepted_file) = (key_file.map(FollowedFile::new), accepted_file.map(FollowedFile::new));
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let own = changed(&mut key_file).await.filter(|text| {
                let is_usable = !text.trim().is_empty();
                if !is_usable {
                    tracing::error!("the file of the worker key is empty; the known one stays");
                }
                is_usable
            });
            let accepted = changed(&mut accepted_file).await;
            if own.is_some() || accepted.is_some() {
                self.take_up(own, accepted);
            }
        }
    }

    fn take_up(&self, own: Option<String>, accepted: Option<String>) {
        let now = self.now();
        let own = own.map_or_else(|| now.own.clone(), |text| text.trim().to_owned());
        let accepted = accepted.map_or_else(|| now.accepted.clone(), |text| lines_of_secrets(&text));
        if own == now.own && accepted == now.accepted {
            return;
        }
        tracing::info!(accepted = accepted.len(), "the worker keys have changed");
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Known::new(own, accepted));
    }

    fn now(&self) -> Arc<Known> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Known ===

impl Known {
    fn new(own: String, accepted: Vec<String>) -> Self {
        let digests = std::iter::once(&own).chain(&accepted).map(|key| sha256(key.as_bytes())).collect();
        Self { own, accepted, digests }
    }
}

/// The text of a file that has changed and can be read.
async fn changed(file: &mut Option<FollowedFile>) -> Option<String> {
    let file = file.as_mut()?;
    let path = file.path().display().to_string();
    match file.look().await? {
        Ok(text) => Some(text.to_owned()),
        Err(error) => {
            tracing::error!(path, error, "worker keys cannot be read; the known ones stay");
            None
        }
    }
}

#[cfg(test)]
pub(crate) fn keys_of(own: &str, accepted: &[&str]) -> Arc<WorkerKeys> {
    let accepted = accepted.iter().map(|key| (*key).to_owned()).collect();
    Arc::new(WorkerKeys(RwLock::new(Arc::new(Known::new(own.to_owned(), accepted)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_key_and_each_accepted_one_pass_and_the_first_is_shown() {
        let keys = keys_of("own", &["old", "new"]);
        assert_eq!(keys.own(), "own");
        for key in ["own", "old", "new"] {
            assert!(keys.accepts(key.as_bytes()), "{key}");
        }
        for wrong in ["", "ow", "owns", "oldnew"] {
            assert!(!keys.accepts(wrong.as_bytes()), "{wrong}");
        }
        keys.take_up(Some("new\n".to_owned()), Some("# none\n\n".to_owned()));
        assert_eq!(keys.own(), "new");
        assert!(keys.accepts(b"new") && !keys.accepts(b"own") && !keys.accepts(b"old"));
    }
}
