//! API keys and what each may do.
//!
//! Invariant: a key is compared by its digest in constant time against every configured key, so an answer's timing
//! tells nothing about how much of a guess was right. `Debug` prints no secret.

pub mod file;
pub(crate) mod follow;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use entities::ids::AuthorityName;
use openssl::memcmp;
use openssl::sha::sha256;

/// What a key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything about circuits and workers.
    Manager,
    /// Register as a worker of these authorities; empty means of any.
    Worker {
        /// The authorities.
        authorities: Vec<AuthorityName>,
    },
    /// Look, change nothing.
    Read,
}

impl Scope {
    /// The word for logs and errors.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Worker { .. } => "worker",
            Self::Read => "read",
        }
    }

    /// Whether it may serve `authority`.
    pub fn may_serve(&self, authority: &AuthorityName) -> bool {
        match self {
            Self::Worker { authorities } => authorities.is_empty() || authorities.contains(authority),
            Self::Manager | Self::Read => false,
        }
    }
}

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Only a digest is known of some.
    secret: Option<String>,
    digest: [u8; 32],
    scope: Scope,
    name: Option<String>,
}

// === impl ApiKey ===

impl ApiKey {
    /// A key with what it may do.
    pub fn new(secret: impl Into<String>, scope: Scope) -> Self {
        let secret = secret.into();
        Self { digest: sha256(secret.as_bytes()), secret: Some(secret), scope, name: None }
    }

    /// A key of which only the SHA-256 is known. Workers cannot be asked with it.
    pub fn hashed(digest: [u8; 32], scope: Scope) -> Self {
        Self { secret: None, digest, scope, name: None }
    }

    /// The same key with a name for the log.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// What it may do.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What the log calls it: its name, or the beginning of its digest.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let beginning = self.digest.iter().take(4).map(|byte| format!("{byte:02x}"));
            beginning.fold(file::DIGEST_PREFIX.to_owned(), |label, byte| label + &byte)
        })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiKey").field("scope", &self.scope).field("name", &self.name).finish_non_exhaustive()
    }
}

/// All keys of a coordinator. They can be replaced while they are used.
#[derive(Debug)]
pub struct ApiKeys(ArcSwap<Vec<Arc<ApiKey>>>);

// === impl ApiKeys ===

impl ApiKeys {
    /// The keys that are accepted.
    pub fn new(keys: Vec<ApiKey>) -> Self {
        Self(ArcSwap::from_pointee(keys.into_iter().map(Arc::new).collect()))
    }

    /// Accepts these keys instead; `false` if they are what they were.
    pub fn replace(&self, keys: Vec<ApiKey>) -> bool {
        let keys: Vec<Arc<ApiKey>> = keys.into_iter().map(Arc::new).collect();
        let is_new = **self.0.load() != keys;
        if is_new {
            self.0.store(Arc::new(keys));
        }
        is_new
    }

    /// The key that `secret` is; `None` if no key is like that.
    pub fn find(&self, secret: &str) -> Option<Arc<ApiKey>> {
        let digest = sha256(secret.as_bytes());
        let mut found = None;
        for key in self.0.load().iter() {
            if memcmp::eq(&key.digest, &digest) {
                found = Some(Arc::clone(key));
            }
        }
        found
    }

    /// The first key that workers of `authority` know, with which the coordinator asks them.
    pub fn worker_secret(&self, authority: &AuthorityName) -> Option<String> {
        self.0.load().iter().filter(|key| key.scope.may_serve(authority)).find_map(|key| key.secret.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_scope_and_no_other_key_has_one() {
        let main: AuthorityName = "main".parse().expect("valid");
        let other: AuthorityName = "other".parse().expect("valid");
        let keys = ApiKeys::new(vec![
            ApiKey::new("m", Scope::Manager),
            ApiKey::new("w", Scope::Worker { authorities: vec![main.clone()] }),
        ]);
        let scope_of = |secret| keys.find(secret).map(|key| key.scope().clone());
        assert_eq!(scope_of("m"), Some(Scope::Manager));
        assert_eq!(scope_of("mm"), None);
        assert_eq!(scope_of(""), None);
        assert_eq!(keys.worker_secret(&main).as_deref(), Some("w"));
        assert_eq!(keys.worker_secret(&other), None);
    }

    #[test]
    fn a_digest_is_as_good_as_its_key_and_is_no_key_itself() {
        let hashed = ApiKey::hashed(sha256(b"hush-hush"), Scope::Read);
        let digest: String = hashed.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let keys = ApiKeys::new(vec![hashed]);
        assert!(keys.find("hush-hush").is_some());
        assert!(keys.find(&digest).is_none() && keys.find(&format!("sha256:{digest}")).is_none());
    }

    #[test]
    fn replaced_keys_are_accepted_at_once_and_the_first_worker_key_is_presented() {
        let main: AuthorityName = "main".parse().expect("valid");
        let worker = |secret: &str| ApiKey::new(secret, Scope::Worker { authorities: Vec::new() });
        let keys = ApiKeys::new(vec![worker("old")]);
        assert!(keys.replace(vec![worker("new"), worker("old")]));
        assert!(!keys.replace(vec![worker("new"), worker("old")]), "nothing is new");
        assert!(keys.find("new").is_some() && keys.find("old").is_some());
        assert_eq!(keys.worker_secret(&main).as_deref(), Some("new"));
        assert!(keys.replace(vec![worker("new")]));
        assert!(keys.find("old").is_none());
    }

    #[test]
    fn the_log_calls_a_key_by_its_name_or_by_the_beginning_of_its_digest() {
        let key = ApiKey::new("hush-hush", Scope::Read);
        let label = key.label();
        assert_eq!(label.len(), "sha256:".len() + 8, "{label}");
        assert_eq!(key.named("ops-1").label(), "ops-1");
    }

    #[test]
    fn no_secret_is_printed() {
        let text = format!("{:?}", ApiKeys::new(vec![ApiKey::new("hush-hush", Scope::Read)]));
        assert!(!text.contains("hush"), "{text}");
    }
}
