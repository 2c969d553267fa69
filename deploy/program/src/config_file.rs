//! `config sample`, `config check`, and reading the file that `--config` names.
//!
//! Invariant: `check` and `serve` read a file in the same way, so what passes the one starts with the other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::exit;
use crate::settings::{SettingFaults, Settings};

/// The largest configuration file; a sample has 4 KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Names the file.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// Configuration file; `config sample` prints one.
    #[arg(long = "config", env = "APPPROXY_CONFIG", value_name = "FILE")]
    path: PathBuf,
}

/// What can be done with configuration besides running with it.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a commented configuration file.
    Sample,
    /// Read a configuration file, report every fault, start nothing.
    Check(ConfigFile),
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The file is no configuration.
    #[error("{0} has more than {MAX_FILE_BYTES} bytes")]
    TooLarge(PathBuf),
    /// What it says is wrong.
    #[error(transparent)]
    Faults(#[from] SettingFaults),
}

// === impl ConfigFile ===

impl ConfigFile {
    /// What `read` makes of the file and the environment.
    ///
    /// # Errors
    /// If the file cannot be read, or every fault of what it says.
    pub fn load<T>(&self, read: fn(Settings<'_>) -> Result<T, SettingFaults>) -> Result<T, ConfigFileError> {
        let fault = |error| ConfigFileError::File { path: self.path.clone(), error };
        if std::fs::metadata(&self.path).map_err(fault)?.len() > MAX_FILE_BYTES {
            return Err(ConfigFileError::TooLarge(self.path.clone()));
        }
        let text = std::fs::read_to_string(&self.path).map_err(fault)?;
        let read_secret = |path: &Path| std::fs::read(path);
        let settings = Settings::new(&self.path.display().to_string(), &text, environment(), &read_secret);
        Ok(read(settings)?)
    }
}

/// Variables that are no text are none of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

// === impl ConfigCommand ===

impl ConfigCommand {
    /// Does it for `program`.
    pub fn run<T>(&self, program: &str, sample: &str, read: fn(Settings<'_>) -> Result<T, SettingFaults>) -> ExitCode {
        match self {
            Self::Sample => {
                print!("{sample}");
                ExitCode::SUCCESS
            }
            Self::Check(file) => match file.load(read) {
                Ok(_) => {
                    println!("{} is valid", file.path.display());
                    ExitCode::SUCCESS
                }
                Err(error) => exit::usage(program, &error.to_string()),
            },
        }
    }
}
