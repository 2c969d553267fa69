//! What is wrong with a request, every fault at once.
//!
//! Invariant: a fault names its place by a JSON pointer (RFC 6901) and its kind by a code that programs can match.

use serde::Serialize;

use crate::limits::MAX_FAULTS;

/// What kind of fault it is. The names on the wire are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The body is not JSON, or not an object.
    Malformed,
    /// The field is needed and missing.
    Required,
    /// The field has another type.
    WrongType,
    /// The value is outside of what the field takes.
    Invalid,
    /// The value is longer or larger than its limit.
    TooLarge,
    /// No such field.
    UnknownField,
    /// The field is known, but its rule is not enforced yet, so it is refused rather than ignored.
    NotSupported,
    /// The field cannot be changed after opening.
    Immutable,
    /// Two fields say different things.
    Contradiction,
    /// The same value stands twice.
    Duplicate,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: a JSON pointer into the body, or `?name` for a query parameter.
    pub pointer: String,
    /// What kind.
    pub code: FaultCode,
    /// In words.
    pub detail: String,
}

/// All faults of a request, in the order they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{} faults", .0.len())]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault; past [`MAX_FAULTS`] it is only counted as there being too many already.
    pub fn push(&mut self, pointer: impl Into<String>, code: FaultCode, detail: impl Into<String>) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(Fault { pointer: pointer.into(), code, detail: detail.into() });
        }
    }

    /// A single fault.
    pub fn one(pointer: impl Into<String>, code: FaultCode, detail: impl Into<String>) -> Self {
        let mut faults = Self::default();
        faults.push(pointer, code, detail);
        faults
    }

    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults.
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }

    /// `value`, unless there are faults.
    pub fn into_result<T>(self, value: impl FnOnce() -> Option<T>) -> Result<T, Faults> {
        if !self.is_empty() {
            return Err(self);
        }
        value().ok_or_else(|| Faults::one("", FaultCode::Malformed, "the request is incomplete"))
    }
}
