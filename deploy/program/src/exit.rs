//! Exit codes.
//!
//! Invariant: 0 is a clean end, 64 wrong usage or configuration (`EX_USAGE` of sysexits.h), 1 a start that failed.

use std::process::ExitCode;

use clap::Parser;

const USAGE: u8 = 64;
const FAILED: u8 = 1;

/// The arguments, or the code to exit with when they do not parse or only ask for help.
///
/// # Errors
/// The exit code; what was wrong has been printed.
pub fn parse_arguments<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        let code = if error.use_stderr() { USAGE } else { 0 };
        // Nothing is left to do when even this cannot be printed.
        let _ = error.print();
        ExitCode::from(code)
    })
}

/// Wrong usage or configuration, said on standard error.
pub fn usage(program: &str, message: &str) -> ExitCode {
    eprintln!("{program}: {message}");
    ExitCode::from(USAGE)
}

/// A start that failed, said on standard error.
pub fn failed(program: &str, message: &str) -> ExitCode {
    eprintln!("{program}: {message}");
    ExitCode::from(FAILED)
}
