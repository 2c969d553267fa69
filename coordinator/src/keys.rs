//! API keys and what each may do.
//!
//! Invariant: a key is compared by its digest in constant time against every configured key, so an answer's timing
//! tells nothing about how much of a guess was right. `Debug` prints no secret.

pub mod file;

use std::fmt;

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
    secret: String,
    scope: Scope,
}

impl ApiKey {
    /// A key with what it may do.
    pub fn new(secret: impl Into<String>, scope: Scope) -> Self {
        Self { secret: secret.into(), scope }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiKey").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// All keys of a coordinator.
#[derive(Debug, Clone)]
pub struct ApiKeys(Vec<([u8; 32], ApiKey)>);

impl ApiKeys {
    /// The keys that are accepted.
    pub fn new(keys: Vec<ApiKey>) -> Self {
        Self(keys.into_iter().map(|key| (sha256(key.secret.as_bytes()), key)).collect())
    }

    /// What the bearer of `secret` may do; `None` if no key is like that.
    pub fn scope_of(&self, secret: &str) -> Option<&Scope> {
        let digest = sha256(secret.as_bytes());
        let mut found = None;
        for (known, key) in &self.0 {
            if memcmp::eq(known, &digest) {
                found = Some(&key.scope);
            }
        }
        found
    }

    /// The key that workers of `authority` know, with which the coordinator asks them.
    pub fn worker_secret(&self, authority: &AuthorityName) -> Option<&str> {
        self.0.iter().find(|(_, key)| key.scope.may_serve(authority)).map(|(_, key)| key.secret.as_str())
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
        assert_eq!(keys.scope_of("m"), Some(&Scope::Manager));
        assert_eq!(keys.scope_of("mm"), None);
        assert_eq!(keys.scope_of(""), None);
        assert_eq!(keys.worker_secret(&main), Some("w"));
        assert_eq!(keys.worker_secret(&other), None);
    }

    #[test]
    fn no_secret_is_printed() {
        let text = format!("{:?}", ApiKeys::new(vec![ApiKey::new("hush-hush", Scope::Read)]).0[0].1);
        assert!(!text.contains("hush"), "{text}");
    }
}
