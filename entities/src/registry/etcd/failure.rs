//! What a failed call means: whether it may have happened, and whether to try elsewhere.
//!
//! Invariant: [`Kind::NotSent`] and [`Kind::NotLoggedIn`] are only said of calls that changed nothing.

use etcd_rs::Error;
use tonic::{Code, Status};

use crate::ids::Revision;
use crate::registry::RegistryError;

/// An endpoint may say as much as it likes; this much is passed on. OpenSSL needs 350 to say that a certificate is bad.
const MAX_TEXT_CHARS: usize = 500;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    text: String,
}

/// What a failure means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// There was no connection: nothing has happened.
    NotSent,
    /// The call broke on its way, or did not end in time: it may have happened.
    Unclear,
    /// etcd does not know the token any more: nothing has happened.
    NotLoggedIn,
    /// The revision asked for is gone.
    Compacted,
    /// The lease has ended.
    LeaseEnded,
    /// etcd understood and will not: another endpoint would say the same.
    Refused,
}

// === impl Failure ===

impl Failure {
    /// A call that broke for a reason that no answer names.
    pub(super) fn unclear(text: &str) -> Self {
        Self { kind: Kind::Unclear, text: text.to_owned() }
    }

    /// A call that another endpoint would not answer better.
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, text: text.into() }
    }

    /// The same, with the endpoint that it happened at.
    pub(super) fn at(mut self, endpoint: &str) -> Self {
        self.text = format!("{endpoint}: {}", self.text);
        self
    }

    /// The same, after `earlier` had failed elsewhere.
    pub(super) fn after(mut self, earlier: Option<Self>) -> Self {
        if let Some(earlier) = earlier {
            self.text = format!("{}; {}", earlier.text, self.text);
        }
        self
    }

    /// As callers of a registry know it, when they had asked for `revision`.
    pub(super) fn of_revision(self, revision: Revision) -> RegistryError {
        match self.kind {
            Kind::Compacted => RegistryError::Compacted(revision),
            _ => self.into(),
        }
    }
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Kind::LeaseEnded => Self::LeaseEnded,
            _ => Self::Unavailable(failure.text),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Response(status) => Self::from(status),
            // The others are of a fixed text or of a connection, never of what was sent.
            other => Self::unclear(&shortened(&other.to_string())),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let kind = if has_no_connection(&status) { Kind::NotSent } else { kind(status.code(), status.message()) };
        Self { kind, text: format!("{:?}: {}", status.code(), shortened(status.message())) }
    }
}

/// etcd tells some cases apart by their text alone.
fn kind(code: Code, message: &str) -> Kind {
    match code {
        Code::Unauthenticated => Kind::NotLoggedIn,
        // A token from before the users were changed; no token, although a login has become necessary.
        Code::InvalidArgument if message.contains("auth store is old") || message.contains("user name is empty") => {
            Kind::NotLoggedIn
        }
        Code::OutOfRange if message.contains("has been compacted") => Kind::Compacted,
        Code::NotFound if message.contains("lease not found") => Kind::LeaseEnded,
        Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::NotFound
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Unimplemented => Kind::Refused,
        _ => Kind::Unclear,
    }
}

fn has_no_connection(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper_014::Error>().is_some_and(hyper_014::Error::is_connect) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_answers_are_told_apart() {
        for (status, wanted) in [
            (Status::unauthenticated("etcdserver: invalid auth token"), Kind::NotLoggedIn),
            (Status::invalid_argument("etcdserver: revision of auth store is old"), Kind::NotLoggedIn),
            (Status::invalid_argument("etcdserver: user name is empty"), Kind::NotLoggedIn),
            (Status::invalid_argument("etcdserver: authentication failed, invalid user ID or password"), Kind::Refused),
            (Status::out_of_range("etcdserver: mvcc: required revision has been compacted"), Kind::Compacted),
            (Status::out_of_range("Error, message length too large: found 5 bytes, the limit is: 4"), Kind::Refused),
            (Status::not_found("etcdserver: requested lease not found"), Kind::LeaseEnded),
            (Status::resource_exhausted("etcdserver: mvcc: database space exceeded"), Kind::Refused),
            (Status::unavailable("etcdserver: no leader"), Kind::Unclear),
            (Status::internal("h2 protocol error"), Kind::Unclear),
        ] {
            assert_eq!(Failure::from(status.clone()).kind, wanted, "{status:?}");
        }
    }

    #[test]
    fn only_the_caller_that_named_a_revision_hears_that_it_is_gone() {
        let gone = || Failure::from(Status::out_of_range("etcdserver: mvcc: required revision has been compacted"));
        assert_eq!(gone().of_revision(Revision(7)), RegistryError::Compacted(Revision(7)));
        assert!(matches!(RegistryError::from(gone()), RegistryError::Unavailable(_)));
    }

    #[test]
    fn a_text_names_each_endpoint_and_stays_short_and_on_one_line() {
        let first = Failure::unclear("no answer").at("a:1");
        let last = Failure::from(Status::unavailable(format!("{}\n", "x".repeat(1_000)))).at("b:2").after(Some(first));
        let RegistryError::Unavailable(text) = RegistryError::from(last) else { panic!("it may be tried again") };
        assert!(text.starts_with("a:1: no answer; b:2: Unavailable: xxx"), "{text}");
        assert!(text.len() < 2 * MAX_TEXT_CHARS && !text.contains('\n'));
    }
}
