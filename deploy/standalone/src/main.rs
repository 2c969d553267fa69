//! `appproxy`: parse → run → exit code.
//!
//! Invariant: nothing is decided here.

use std::process::ExitCode;

use standalone::cli;

/// glibc's allocator keeps what a burst of connections took; this one gives it back and costs less per request.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
