//! `appproxy-edge`: parse → run → exit code.
//!
//! Invariant: nothing is decided here.

use std::process::ExitCode;

/// glibc's allocator keeps what a burst of connections took; this one gives it back and costs less per request.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    edge::cli::main()
}
