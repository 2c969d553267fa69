//! Tells that the system or the process has no file descriptor left, which is nobody's fault but the edge's.
//!
//! Invariant: no target is blamed for it and no other target is tried, because none could be reached.

use std::io;

/// `EMFILE` and `ENFILE` of Linux and the BSDs, for which the standard library has no kind.
const CODES: [i32; 2] = [24, 23];

/// Whether `error` means that there is no descriptor left.
pub(crate) fn are_used_up(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}
