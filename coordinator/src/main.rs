//! `appproxy-coordinator`: parse → run → exit code.
//!
//! Invariant: nothing is decided here.

use std::process::ExitCode;

/// glibc's allocator keeps what a burst of requests took; this one gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    coordinator::cli::main()
}
