//! How a program begins, and the codes that it ends with.
//!
//! Invariant: 0 is a clean end, 64 wrong usage or configuration (`EX_USAGE` of sysexits.h), 1 a start that failed.

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Runtime;

const USAGE: u8 = 64;
const FAILED: u8 = 1;

/// The arguments of `program` and a runtime to run it on, or the code to exit with: when the arguments do not parse or
/// only ask for help, or when there is no runtime.
///
/// # Errors
/// The exit code; what was wrong has been printed.
pub fn begin<A: Parser>(program: &str) -> Result<(A, Runtime), ExitCode> {
    let arguments = A::try_parse().map_err(|error| {
        let code = if error.use_stderr() { USAGE } else { 0 };
        // Nothing is left to do when even this cannot be printed.
        let _ = error.print();
        ExitCode::from(code)
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(program, &format!("the runtime cannot start: {error}")))?;
    Ok((arguments, runtime))
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
