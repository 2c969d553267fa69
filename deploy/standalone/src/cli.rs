//! The command line.
//!
//! Invariant: an option that is wrong is named, and nothing was started then.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use edge::Http1Engine;
use entities::authority::{PortRange, Scheme};
use entities::clock::SystemClock;
use entities::host::HostName;
use entities::ids::Port;
use entities::range::AddressRange;
use entities::registry::memory::MemoryRegistry;
use entities::target::TargetHost;
use program::log::{self, LogSettings};
use program::{exit, stop};

use crate::serve::{Config, Listeners, ServeError};
use crate::{data, demo, ready, serve};

const PROGRAM: &str = "appproxy";

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
    Serve(Box<ServeArgs>),
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
    /// What carries plain requests of HTTP/1.1: exchange is the edge's own engine, which is on trial.
    #[arg(long, env = "APPPROXY_HTTP1", value_name = "pingora|exchange", default_value = "pingora")]
    http1: Http1Engine,
    /// Addresses or ranges of proxies in front that are believed when they say whom they speak for.
    #[arg(long, env = "APPPROXY_TRUSTED_PROXIES", value_name = "RANGE,…", value_delimiter = ',')]
    trusted_proxies: Vec<AddressRange>,
    /// Addresses or ranges of proxies whose connections begin with a header of the PROXY protocol, or are closed.
    #[arg(long, env = "APPPROXY_PROXY_PROTOCOL_FROM", value_name = "RANGE,…", value_delimiter = ',')]
    proxy_protocol_from: Vec<AddressRange>,
    /// Memory that the process may take before it turns new connections away; 0 is what its control group is given.
    #[arg(long, env = "APPPROXY_MEMORY_MB", value_name = "MIB", default_value_t = 0)]
    memory_mb: u64,
    /// Seconds that open connections of a closed circuit may go on; less than a released port rests.
    #[arg(long, env = "APPPROXY_DRAIN_S", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(0..60))]
    drain_s: u64,
    /// What is logged: error, warn, info, debug, trace, or a filter like `info,edge=debug`.
    #[arg(long, env = "APPPROXY_LOG", value_name = "FILTER", default_value = log::DEFAULT_FILTER)]
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
    let (cli, runtime): (Cli, _) = match exit::begin(PROGRAM) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    match cli.command {
        Some(Command::Demo(args)) => match runtime.block_on(demo::run(args.bind, stop::signalled())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit::failed(PROGRAM, &format!("the demo cannot listen on {}: {error}", args.bind)),
        },
        Some(Command::Serve(args)) => runtime.block_on(serve(*args)),
        None => runtime.block_on(serve(cli.serve)),
    }
}

async fn serve(args: ServeArgs) -> ExitCode {
    if let Err(error) = LogSettings::new(&args.log, args.log_json).start() {
        return exit::usage(PROGRAM, &format!("--log does not parse: {error}"));
    }
    match try_serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Usage(message)) => exit::usage(PROGRAM, &message),
        Err(error) => exit::failed(PROGRAM, &error.to_string()),
    }
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
    program::system::raise_descriptor_limit();
    let data = data::Data::open(&data_dir)?;
    let listeners = Listeners::bind(args.api, args.edge)?;
    let config = config_of(&args, &data, &listeners)?;
    let addresses = ready::Addresses::of(&config, &listeners, &data)?;
    let stopped = stop::on_signal();
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
        http1: args.http1,
        public_port,
        trusted_proxies: args.trusted_proxies.clone(),
        proxy_protocol_from: args.proxy_protocol_from.clone(),
        memory_ceiling: edge::settings::memory_ceiling(args.memory_mb),
        drain_time: Duration::from_secs(args.drain_s),
        timing: coordinator::config::Timing::default(),
    })
}
