//! One program of ours as a process.
//!
//! Invariant: the process is gone when its handle is dropped, and whatever it said is in its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::wait::wait_until_for;

/// How long a program may take to end in order.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Lines of its log that a program shows when its test fails.
const LAST_FAULTS: usize = 20;

/// A program with its arguments, running or not.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// A program of the workspace, built in the same profile as whoever asks.
///
/// # Panics
/// If it was not built: `cargo test --workspace` and `cargo build --workspace` build it.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    let path = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    path.unwrap_or_else(|| panic!("{name} was not built: use `cargo build --workspace` or `cargo test --workspace`"))
}

// === impl Process ===

impl Process {
    /// One that will run in `folder` and log to `<name>.log` there.
    pub fn new(name: &str, program: PathBuf, arguments: &[&str], folder: &Path) -> Self {
        Self {
            program,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            variables: Vec::new(),
            folder: folder.to_owned(),
            log: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Sets a variable, for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it, or starts it again.
    pub fn start(&mut self) {
        self.kill();
        let mut command = self.command();
        self.child = Some(command.args(&self.arguments).spawn().expect("the program starts"));
    }

    /// Runs it to its end with other arguments.
    pub fn run(&self, arguments: &[&str]) {
        let status = self.command().args(arguments).status().expect("the program starts");
        assert!(status.success(), "{arguments:?}: {}", self.log());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the process is ours");
            child.wait().expect("the process is ours");
        }
    }

    /// SIGTERM, and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait().await
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let mut status = None;
        wait_until_for("the end of a program", STOP_LIMIT, async || {
            status = child.try_wait().expect("the process is ours");
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }

    /// Holds it, as a machine that hangs would, until [`Process::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Everything that it has logged, over all starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().expect("a process id")), signal).expect("the process is ours");
    }

    fn command(&self) -> Command {
        let open_log = || File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(open_log()).stderr(open_log());
        command
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // The folder goes, and what explains the failure with it.
            let log = self.log();
            let faults: Vec<&str> =
                log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
            let last = faults.get(faults.len().saturating_sub(LAST_FAULTS)..).unwrap_or_default();
            eprintln!("--- last faults of {}:\n{}", self.log.display(), last.join("\n"));
        }
    }
}
