//! A program of ours in a process of its own, with a configuration file and a log.
//!
//! Invariant: one that ends before it is ready ends the measurement, with the end of its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::wait::wait_until_for;

use crate::process::{Process, neighbour};

/// How long a program may take to be ready: a coordinator publishes everything first.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lines of a log that are shown.
const LAST_LINES: usize = 20;

/// A program that runs.
#[derive(Debug)]
pub struct Service {
    process: Process,
    log: PathBuf,
}

impl Service {
    /// Runs `program serve` with `configuration`, which is written to `dir` under `name`, beside the log.
    pub fn start(program: &str, dir: &Path, name: &str, configuration: &str) -> Self {
        let file = write_configuration(dir, name, configuration);
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let mut command = Command::new(neighbour(program));
        command.args(["serve", "--config"]).arg(file).stdout(output.try_clone().expect("a file")).stderr(output);
        Self { process: Process::start(command, None), log }
    }

    /// Waits until `<base>/health/readyz` answers `200`; `started` is when the program was.
    pub async fn wait_ready(&mut self, base: &str, started: Instant) -> Duration {
        let client = testkit::client::keep_alive_client();
        let url = format!("{base}/health/readyz");
        wait_until_for("the program's readiness", PATIENCE, async || {
            assert!(!self.process.has_ended(), "{} ended: {}", self.log.display(), self.log_end());
            matches!(client.get(&url).send().await, Ok(answer) if answer.status() == reqwest::StatusCode::OK)
        })
        .await;
        started.elapsed()
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Everything that it has logged, over all runs with this name.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM, and then until it has ended.
    pub fn stop(self) {
        self.process.stop();
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

/// Writes `<name>.toml`.
pub fn write_configuration(dir: &Path, name: &str, text: &str) -> PathBuf {
    let file = dir.join(format!("{name}.toml"));
    std::fs::write(&file, text).expect("written");
    file
}
