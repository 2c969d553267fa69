//! Why an exchange did not come to its end, and so whose fault that was.

use std::io;

use super::answer::BadAnswer;
use super::framing;

/// Informational answers (RFC 9110 §15.2) before the final one; a target that sends more is broken.
pub(super) const MAX_INTERIM: usize = 16;

/// Why an exchange did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The client has gone.
    #[error("the client closed its connection")]
    ClientGone,
    /// The client's content cannot be read.
    #[error("{0}")]
    ClientContent(framing::Broken),
    /// The client's content did not come in time.
    #[error("the content of the request did not come in time")]
    ContentTimeout,
    /// The client does not take the answer.
    #[error("the client does not take the answer: {0}")]
    WriteTimeout(&'static str),
    /// The target has closed the connection, or it failed.
    #[error("the target closed its connection: {0}")]
    TargetClosed(io::Error),
    /// The target's answer cannot be passed on.
    #[error(transparent)]
    Answer(#[from] BadAnswer),
    /// The content of the answer cannot be read.
    #[error("{0}")]
    AnswerContent(framing::Broken),
    /// The target speaks and speaks and says nothing final.
    #[error("more than {MAX_INTERIM} informational answers, or a head without end")]
    NothingFinal,
    /// The target did not begin its answer in time.
    #[error("the target did not begin its answer in time")]
    AnswerTimeout,
}
