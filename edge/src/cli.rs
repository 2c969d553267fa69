//! The command line of `appproxy-edge`.
//!
//! Invariant: whatever is wrong with the configuration is said before anything is opened.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use program::config_file::{ConfigCommand, ConfigFile, ConfigFileError};
use program::{exit, stop, system};

use crate::settings::{self, EdgeSettings};
use crate::{Listeners, RunError};

const PROGRAM: &str = "appproxy-edge";

/// The data plane of the App Proxy: gives circuits their ports and subdomains and carries their traffic.
#[derive(Debug, Parser)]
#[command(name = "appproxy-edge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the edge.
    Serve(ConfigFile),
    /// Print or check configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Why the edge did not run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    #[error("the log filter does not parse: {0}")]
    Log(String),
    #[error("the traffic port cannot listen on {0}: {1}")]
    Bind(SocketAddr, std::io::Error),
    #[error(transparent)]
    Registry(#[from] entities::registry::etcd::config::EtcdConfigError),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// The whole program.
pub fn main() -> ExitCode {
    let (cli, runtime): (Cli, _) = match exit::begin(PROGRAM) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    let done = match cli.command {
        Command::Config(command) => return command.run(PROGRAM, settings::SAMPLE, settings::read),
        Command::Serve(file) => runtime.block_on(serve(&file)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ StartError::Config(_)) => exit::usage(PROGRAM, &error.to_string()),
        Err(error) => exit::failed(PROGRAM, &error.to_string()),
    }
}

async fn serve(file: &ConfigFile) -> Result<(), StartError> {
    let EdgeSettings { traffic, config, registry, log } = file.load(settings::read)?;
    log.start().map_err(|error| StartError::Log(error.to_string()))?;
    system::raise_descriptor_limit();
    if let Some(ports) = &config.authority.ports {
        system::warn_of_ephemeral_ports(ports.ports.first().number(), ports.ports.last().number());
    }
    tracing::info!(openssl = openssl::version::version(), "edge starts");
    let listeners =
        Listeners { traffic: TcpListener::bind(traffic).map_err(|error| StartError::Bind(traffic, error))? };
    let layout = registry.layout.clone();
    Ok(crate::run(config, registry.open()?, layout, listeners, stop::on_signal()).await?)
}
