//! The command line.
//!
//! Invariant: exit codes are 0 for a clean end, 64 for wrong usage (`EX_USAGE` of sysexits.h), 1 for a start that
//! failed.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use entities::authority::{PortRange, Scheme};
use entities::clock::SystemClock;
use entities::host::HostName;
use entities::ids::Port;
use entities::registry::memory::MemoryRegistry;
use entities::target::TargetHost;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

use crate::serve::{Config, Listeners, ServeError};
use crate::{data, demo, ready, serve};

const EXIT_USAGE: u8 = 64;
const EXIT_FAILED: u8 = 1;

/// Pingora reports each port that closes, and as an error each client that breaks off; the edge says itself what
/// went wrong and whose fault it was.
const DEFAULT_LOG: &str = "info,pingora_core=warn,pingora_proxy=off,sea_orm_migration=warn";

/// The way in to web apps, notebooks and other services in containers on a private network.
#[derive(Debug, Parser)]
#[command(name = "appproxy", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run coordinator and edge in one process (the default).
    Serve(ServeArgs),
    /// Serve a small page with a live WebSocket, to have something to open.
    Demo(DemoArgs),
}

/// Settings of the proxy; each can be given by environment too.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Folder of the database and the API keys [default: $XDG_DATA_HOME/appproxy or ~/.local/share/appproxy]
    #[arg(long, env = "APPPROXY_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the coordinator's API listens.
    #[arg(long, env = "APPPROXY_API", value_name = "ADDRESS", default_value = "127.0.0.1:6120")]
    api: SocketAddr,
    /// Where the edge listens for subdomain traffic.
    #[arg(long, env = "APPPROXY_EDGE", value_name = "ADDRESS", default_value = "127.0.0.1:6130")]
    edge: SocketAddr,
    /// Domain under which each subdomain circuit has a name.
    #[arg(long, env = "APPPROXY_DOMAIN", value_name = "NAME", default_value = "apps.localhost")]
    domain: HostName,
    /// Ports that circuits may get, both ends included.
    #[arg(long, env = "APPPROXY_PORTS", value_name = "FIRST-LAST", default_value = "30000-30999")]
    ports: PortRange,
    /// Address on which ports of circuits listen [default: the address of --edge]
    #[arg(long, env = "APPPROXY_PORT_ADDRESS", value_name = "IP")]
    port_address: Option<IpAddr>,
    /// Host that clients use to reach ports of circuits [default: the address on which they listen]
    #[arg(long, env = "APPPROXY_PORT_HOST", value_name = "HOST")]
    port_host: Option<TargetHost>,
    /// Scheme that clients use, https when something in front ends TLS.
    #[arg(long, env = "APPPROXY_PUBLIC_SCHEME", value_name = "http|https", default_value = "http")]
    public_scheme: Scheme,
    /// Port that clients use for subdomains [default: the port of --edge]
    #[arg(long, env = "APPPROXY_PUBLIC_PORT", value_name = "PORT")]
    public_port: Option<u16>,
    /// Seconds that open connections of a closed circuit may go on; less than a released port rests.
    #[arg(long, env = "APPPROXY_DRAIN_S", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(0..60))]
    drain_s: u64,
    /// What is logged: error, warn, info, debug, trace, or a filter like `info,edge=debug`.
    #[arg(long, env = "APPPROXY_LOG", value_name = "FILTER", default_value = DEFAULT_LOG)]
    log: String,
    /// Log as JSON, one object a line.
    #[arg(long, env = "APPPROXY_LOG_JSON")]
    log_json: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Where the page listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    bind: SocketAddr,
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // Nothing is left to do when even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime cannot start: {error}")),
    };
    match cli.command {
        Some(Command::Demo(args)) => match runtime.block_on(demo::run(args.bind, stop_signal())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&format!("the demo cannot listen on {}: {error}", args.bind)),
        },
        Some(Command::Serve(args)) => runtime.block_on(serve(args)),
        None => runtime.block_on(serve(cli.serve)),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("appproxy: {message}");
    ExitCode::from(EXIT_FAILED)
}

async fn serve(args: ServeArgs) -> ExitCode {
    let filter = match log_filter(&args.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("appproxy: --log does not parse: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if args.log_json {
        log.json().init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    }
    match try_serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Usage(message)) => {
            eprintln!("appproxy: {message}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => failed(&error.to_string()),
    }
}

/// What pingora says at level trace holds whole request heads, keys and cookies included: nobody gets that.
fn log_filter(text: &str) -> Result<EnvFilter, ParseError> {
    const CAPPED: [&str; 2] = ["pingora_core=debug", "pingora_proxy=debug"];
    let filter = EnvFilter::try_new(text)?;
    let is_talkative = filter.max_level_hint().is_none_or(|level| level >= LevelFilter::TRACE);
    if !is_talkative {
        return Ok(filter);
    }
    CAPPED.into_iter().try_fold(filter, |filter, directive| Ok(filter.add_directive(directive.parse()?)))
}

/// Why the proxy did not run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Data(#[from] data::DataError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

async fn try_serve(args: ServeArgs) -> Result<(), StartError> {
    let data_dir = match args.data.clone().or_else(data::default_dir) {
        Some(dir) => dir,
        None => return Err(StartError::Usage("neither --data nor HOME says where the data folder is".to_owned())),
    };
    serve::raise_descriptor_limit();
    let data = data::Data::open(&data_dir)?;
    let listeners = Listeners::bind(args.api, args.edge)?;
    let config = config_of(&args, &data, &listeners)?;
    let addresses = ready::Addresses::of(&config, &listeners, &data)?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop_signal().await;
        tracing::info!("stopping");
        stop.send_replace(true);
    });
    let clock = Arc::new(SystemClock);
    let announce = ready::announce(addresses, config.keys.read.clone());
    tokio::select! {
        // The announcement ends by itself and must not end the proxy.
        served = serve::run(config, listeners, clock, Arc::new(MemoryRegistry::new()), stopped) => Ok(served?),
        () = async { announce.await; std::future::pending().await } => Ok(()),
    }
}

fn config_of(args: &ServeArgs, data: &data::Data, listeners: &Listeners) -> Result<Config, StartError> {
    let edge = listeners.edge_address()?;
    let port_address = args.port_address.unwrap_or(edge.ip());
    // A wildcard address is where one listens, not where one connects.
    let reachable = if port_address.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { port_address };
    let port_host = match &args.port_host {
        Some(host) => host.clone(),
        None => reachable.to_string().parse().map_err(|error| StartError::Usage(format!("--port-host: {error}")))?,
    };
    let public_port = Port::try_from(args.public_port.unwrap_or(edge.port()))
        .map_err(|error| StartError::Usage(format!("--public-port: {error}")))?;
    Ok(Config {
        database_url: data.database_url(),
        keys: data.keys().clone(),
        domain: args.domain.clone(),
        ports: args.ports,
        port_address,
        port_host,
        public_scheme: args.public_scheme,
        public_port,
        drain_time: Duration::from_secs(args.drain_s),
        timing: coordinator::config::Timing::default(),
    })
}

/// Ends on SIGTERM and SIGINT.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    let interrupt = tokio::signal::ctrl_c();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt => {}
    }
}
