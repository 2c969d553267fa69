//! The header fields that a circuit sets and removes, ready for use.
//!
//! Invariant: a circuit without edits costs a null pointer, because most have none.

use entities::circuit::{FieldEdits, Headers};
use http::{HeaderName, HeaderValue};

/// Edits of both heads.
#[derive(Debug)]
pub(crate) struct HeaderEdits {
    /// On the way to the target.
    pub(crate) request: Edits,
    /// On the way to the client.
    pub(crate) response: Edits,
}

/// Edits of one head: first what goes, then what is set.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// Fields that go.
    pub(crate) remove: Box<[HeaderName]>,
    /// Fields that get this value in place of what they had.
    pub(crate) set: Box<[(HeaderName, HeaderValue)]>,
}

// === impl HeaderEdits ===

impl HeaderEdits {
    /// What `headers` asks for; nothing if that is nothing.
    pub(crate) fn of(headers: &Headers) -> Option<Box<Self>> {
        let has_any = *headers != Headers::default();
        has_any.then(|| Box::new(Self { request: Edits::of(&headers.request), response: Edits::of(&headers.response) }))
    }
}

// === impl Edits ===

impl Edits {
    /// Whether a field called `name` goes, or gets another value.
    pub(crate) fn touches(&self, name: &[u8]) -> bool {
        let is_it = |edited: &HeaderName| edited.as_str().as_bytes().eq_ignore_ascii_case(name);
        self.remove.iter().any(is_it) || self.set.iter().any(|(edited, _)| is_it(edited))
    }

    /// The API lets only names and values through that convert; anything else in the registry is left out.
    fn of(edits: &FieldEdits) -> Self {
        let field = |(name, value): (&String, &String)| Some((name.parse().ok()?, value.parse().ok()?));
        Self {
            remove: edits.remove.iter().filter_map(|name| name.parse().ok()).collect(),
            set: edits.set.iter().filter_map(field).collect(),
        }
    }
}
