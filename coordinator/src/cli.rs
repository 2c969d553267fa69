//! The command line of `appproxy-coordinator`.
//!
//! Invariant: whatever is wrong with the configuration is said before anything is opened.

use std::io::Read;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use entities::clock::SystemClock;
use program::config_file::{ConfigCommand, ConfigFile, ConfigFileError};
use program::{exit, stop, system};

use crate::keys::file;
use crate::settings::{self, CoordinatorSettings};
use crate::store::StoreError;
use crate::store::database::{self, SchemaStep};
use crate::{Listeners, RunError};

const PROGRAM: &str = "appproxy-coordinator";

/// No key is longer.
const MAX_KEY_BYTES: u64 = 4_096;

/// The control plane of the App Proxy: a REST API that opens circuits, and keeps edges told of them.
#[derive(Debug, Parser)]
#[command(name = "appproxy-coordinator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the coordinator.
    Serve(ConfigFile),
    /// Look at the database's schema, or bring it up to date.
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Print or check configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make lines for the file of API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Read a key from standard input and print the line that has its digest instead.
    Hash {
        /// What the key may do: manager or read.
        #[arg(long, value_name = "SCOPE", default_value = "manager")]
        scope: String,
        /// What the log calls it.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// Apply what is pending.
    Up(ConfigFile),
    /// List every step: applied, pending, or unknown to this program. Exits with 1 if the schema does not fit.
    Status(ConfigFile),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    #[error("the log filter does not parse: {0}")]
    Log(String),
    #[error("the API cannot listen on {0}: {1}")]
    Bind(std::net::SocketAddr, std::io::Error),
    #[error(transparent)]
    Registry(#[from] entities::registry::etcd::config::EtcdConfigError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the schema does not fit this program")]
    Schema,
}

/// The whole program.
pub fn main() -> ExitCode {
    let (cli, runtime): (Cli, _) = match exit::begin(PROGRAM) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    let done = match cli.command {
        Command::Config(command) => return command.run(PROGRAM, settings::SAMPLE, settings::read),
        Command::Keys(KeysCommand::Hash { scope, name }) => return hash_key(&scope, name.as_deref()),
        Command::Serve(file) => runtime.block_on(serve(&file)),
        Command::Migrate(MigrateCommand::Up(file)) => runtime.block_on(migrate(&file)),
        Command::Migrate(MigrateCommand::Status(file)) => runtime.block_on(show_schema(&file)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ CommandError::Config(_)) => exit::usage(PROGRAM, &error.to_string()),
        Err(error) => exit::failed(PROGRAM, &error.to_string()),
    }
}

async fn serve(file: &ConfigFile) -> Result<(), CommandError> {
    let CoordinatorSettings { bind, config, registry, log } = file.load(settings::read)?;
    log.start().map_err(|error| CommandError::Log(error.to_string()))?;
    system::raise_descriptor_limit();
    let api = TcpListener::bind(bind).map_err(|error| CommandError::Bind(bind, error))?;
    let address = api.local_addr().map_err(|error| CommandError::Bind(bind, error))?;
    tracing::info!(%address, openssl = openssl_version(), "the API listens");
    let layout = registry.layout.clone();
    let listeners = Listeners { api };
    crate::run(config, registry.open()?, layout, Arc::new(SystemClock), listeners, stop::on_signal()).await?;
    tracing::info!("coordinator stopped");
    Ok(())
}

/// On the command line a key would be seen by everybody on the machine.
fn hash_key(scope: &str, name: Option<&str>) -> ExitCode {
    let mut text = String::new();
    match std::io::stdin().take(MAX_KEY_BYTES).read_to_string(&mut text) {
        Ok(_) => match file::hashed_line(scope, text.trim(), name) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(fault) => exit::usage(PROGRAM, &fault),
        },
        Err(error) => exit::failed(PROGRAM, &format!("the key cannot be read: {error}")),
    }
}

fn openssl_version() -> &'static str {
    openssl::version::version()
}

async fn migrate(file: &ConfigFile) -> Result<(), CommandError> {
    let database = file.load(settings::read)?.config.database;
    let before = database::schema(&database).await?;
    database::migrate(&database).await?;
    let pending = before.iter().filter(|step| !step.is_applied);
    let mut count = 0;
    for step in pending {
        println!("applied {}", step.name);
        count += 1;
    }
    if count == 0 {
        println!("the schema is up to date");
    }
    Ok(())
}

async fn show_schema(file: &ConfigFile) -> Result<(), CommandError> {
    let steps = database::schema(&file.load(settings::read)?.config.database).await?;
    for step in &steps {
        println!("{}: {}", step.name, step.word());
    }
    let fits = |step: &SchemaStep| step.is_applied && step.is_known;
    if steps.iter().all(fits) { Ok(()) } else { Err(CommandError::Schema) }
}
