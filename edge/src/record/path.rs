//! The path of a request, as it may be shown to others than its target.
//!
//! Invariant: no query, because tickets and the tokens of applications stand there; at most [`MAX_BYTES`], so that a line of
//! the log has a limit.

use std::fmt;

use http::uri::PathAndQuery;

/// The most that is shown of a path.
const MAX_BYTES: usize = 512;

/// What stands for the rest.
const ELLIPSIS: &str = "…";

/// A path without its query.
#[derive(Clone)]
pub(crate) struct RedactedPath(Path);

#[derive(Clone)]
enum Path {
    /// As it came; what must not be shown is left out when it is written.
    Whole(PathAndQuery),
    /// What is shown, by itself.
    Shown(Box<str>),
}

/// The beginning of a path.
struct Shortened<'a>(&'a str);

// === impl RedactedPath ===

impl RedactedPath {
    /// Shows `path` without its query.
    pub(crate) fn of(path: PathAndQuery) -> Self {
        Self(Path::Whole(path))
    }

    /// Shows `path`, which has no query, by itself.
    pub(crate) fn shown(path: &str) -> Self {
        Self(Path::Shown(Shortened(path).to_string().into()))
    }

    /// The same, without keeping the head of the request in memory.
    pub(crate) fn compacted(self) -> Self {
        match self.0 {
            Path::Whole(_) => Self(Path::Shown(self.to_string().into())),
            Path::Shown(shown) => Self(Path::Shown(shown)),
        }
    }
}

impl fmt::Display for RedactedPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Path::Whole(whole) => Shortened(whole.path()).fmt(formatter),
            Path::Shown(shown) => formatter.write_str(shown),
        }
    }
}

impl fmt::Debug for RedactedPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

// === impl Shortened ===

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0;
        if path.len() <= MAX_BYTES {
            return formatter.write_str(path);
        }
        formatter.write_str(path.get(..path.floor_char_boundary(MAX_BYTES)).unwrap_or_default())?;
        formatter.write_str(ELLIPSIS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_without_its_query_and_has_a_limit() {
        let show = |path: &str| RedactedPath::of(path.parse().expect("valid"));
        for (path, shown) in [
            ("/.appproxy/ticket?t=secret", "/.appproxy/ticket"),
            ("/lab/tree?token=secret", "/lab/tree"),
            ("/", "/"),
            ("*", "*"),
        ] {
            assert_eq!(show(path).to_string(), shown);
            assert_eq!(show(path).compacted().compacted().to_string(), shown);
            assert_eq!(RedactedPath::shown(shown).to_string(), shown);
            assert!(!format!("{:?}", show(path)).contains("secret"));
        }
        let long = show(&format!("/{}", "a".repeat(2 * MAX_BYTES))).to_string();
        assert_eq!((long.len(), long.ends_with(ELLIPSIS)), (MAX_BYTES + ELLIPSIS.len(), true));
    }
}
