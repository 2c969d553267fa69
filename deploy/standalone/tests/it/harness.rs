//! A proxy inside of the test.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use coordinator::config::Timing;
use entities::authority::{PortRange, Scheme};
use entities::clock::{SharedClock, SystemClock};
use entities::ids::Port;
use entities::registry::memory::MemoryRegistry;
use standalone::data::Data;
use standalone::serve::{self, Config, Listeners};
use tempfile::TempDir;
pub(crate) use testkit::manager::{Manager, circuit, host_and_port};
use testkit::registry::LateRegistry;
use testkit::wait::within;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy that runs inside of the test.
pub(crate) struct Proxy {
    pub(crate) manager: Manager,
    pub(crate) registry: MemoryRegistry,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), serve::ServeError>>,
    _dir: TempDir,
}

/// How a test's proxy differs from the usual one.
pub(crate) struct Settings {
    pub(crate) ports: PortRange,
    pub(crate) drain_time: Duration,
    /// How long a change is on its way to the edge.
    pub(crate) registry_lag: Duration,
}

/// A range of ports for circuits that no other test of this process gets.
pub(crate) fn port_range(count: u16) -> PortRange {
    /// Below the ports of outgoing connections, and below those that `testkit::ports` gives.
    static NEXT: AtomicU16 = AtomicU16::new(3_000);
    let first = NEXT.fetch_add(count, Ordering::Relaxed);
    assert!(first + count <= 12_000, "the tests take more ports than there are for them");
    PortRange::new(Port::try_from(first).unwrap(), Port::try_from(first + count - 1).unwrap()).unwrap()
}

/// The settings of a proxy whose data lies in `data`.
pub(crate) fn config(data: &Data, listeners: &Listeners, ports: PortRange, drain_time: Duration) -> Config {
    Config {
        database_url: data.database_url(),
        keys: data.keys().clone(),
        domain: "apps.localhost".parse().unwrap(),
        ports,
        port_address: IpAddr::from([127, 0, 0, 1]),
        port_host: "127.0.0.1".parse().unwrap(),
        public_scheme: Scheme::Http,
        http1: edge::Http1Engine::default(),
        public_port: Port::try_from(listeners.edge_address().unwrap().port()).unwrap(),
        trusted_proxies: Vec::new(),
        proxy_protocol_from: Vec::new(),
        memory_ceiling: None,
        drain_time,
        // A busy machine must not turn a 201 into a 202.
        timing: Timing { apply_timeout: Duration::from_secs(30), ..Timing::default() },
    }
}

// === impl Proxy ===

impl Proxy {
    /// Starts one with a range of its own of `ports` ports.
    pub(crate) async fn start(ports: u16) -> Self {
        let drain_time = Duration::from_secs(30);
        Self::start_with(Settings { ports: port_range(ports), drain_time, registry_lag: Duration::ZERO }).await
    }

    /// Starts one.
    pub(crate) async fn start_with(settings: Settings) -> Self {
        program::system::raise_descriptor_limit();
        let dir = tempfile::tempdir().unwrap();
        let data = Data::open(dir.path()).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Listeners::bind(any, any).unwrap();
        let config = config(&data, &listeners, settings.ports, settings.drain_time);
        let manager = Manager::new(listeners.api_address().unwrap(), &data.keys().manager);
        let registry = MemoryRegistry::new();
        let late = LateRegistry::new(registry.clone(), settings.registry_lag);
        let clock: SharedClock = Arc::new(SystemClock);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve::run(config, listeners, clock, Arc::new(late), stopped));
        manager.wait_for_workers(1).await;
        Self { manager, registry, stop, task, _dir: dir }
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        within("the end of the proxy", self.task).await.unwrap().unwrap();
    }
}
