//! An edge in a process of its own.
//!
//! Invariant: one that is returned is ready, and what is asked about it is asked from outside.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::wait::wait_until_for;

use crate::asker::Asker;
use crate::circuits::DOMAIN;
use crate::process::{Process, resident_bytes};
use crate::service::Service;

/// What edges show to coordinators, and coordinators to edges.
pub const WORKER_KEY: &str = "benches-worker-key-0001";

/// How long files and memory of an edge may move after it has become ready.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// What an edge is started with.
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// Its name, also of its files.
    pub name: String,
    /// Whom it serves.
    pub authority: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its coordinator is, or a stub.
    pub coordinator: String,
    /// Where etcd is.
    pub etcd: String,
    /// Under which prefix there.
    pub prefix: String,
    /// A log filter other than the program's own.
    pub log: Option<&'static str>,
}

/// An edge that runs.
#[derive(Debug)]
pub struct EdgeProcess {
    /// Its traffic port.
    pub address: SocketAddr,
    /// How long it took from its start until `/health/readyz` said so.
    pub ready_after: Duration,
    service: Service,
}

/// The addresses of two edges of one authority: the same port on what looks like two machines.
pub fn two_addresses(port: u16) -> [SocketAddr; 2] {
    [1, 2].map(|last| SocketAddr::from((IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port)))
}

// === impl EdgeSettings ===

impl EdgeSettings {
    fn text(&self, dir: &Path) -> String {
        let Self { name, authority, address, coordinator, etcd, prefix, log } = self;
        let data = dir.join(name);
        let mut text = format!(
            "[worker]\nid = \"{name}\"\nauthority = \"{authority}\"\napi_url = \"http://{address}\"\n\
             [listen]\ntraffic = \"{address}\"\ndomain = \"{DOMAIN}\"\n\
             [coordinator]\nurl = \"{coordinator}\"\nkey = \"{WORKER_KEY}\"\n\
             [registry]\nendpoints = [\"{etcd}\"]\nprefix = \"{prefix}\"\n\
             [data]\ndir = \"{}\"\n[shutdown]\nannounce_s = 0\ndrain_s = 5\n",
            data.display()
        );
        if let Some(filter) = log {
            write!(text, "[log]\nfilter = \"{filter}\"\n").expect("memory");
        }
        text
    }
}

// === impl EdgeProcess ===

impl EdgeProcess {
    /// Starts an edge whose files are in `dir`, and waits until it is ready.
    pub async fn start(dir: &Path, settings: &EdgeSettings) -> Self {
        let text = settings.text(dir);
        let started = Instant::now();
        let mut service = Service::start("appproxy-edge", dir, &settings.name, &text);
        let ready_after = service.wait_ready(&format!("http://{}", settings.address), started).await;
        Self { address: settings.address, ready_after, service }
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        self.service.process()
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.service.log()
    }

    /// Somebody to ask it how far it is.
    pub async fn asker(&self) -> Asker {
        Asker::connect(self.address, WORKER_KEY).await
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.address);
        let answer = testkit::client::client().get(url).send().await.expect("the edge answers");
        let text = answer.text().await.expect("the whole answer");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("there is no {name} in {text}")).parse().expect("a number")
    }

    /// Waits until the snapshot has not grown for `quiet`, and tells how many bytes it holds. It grows by its position
    /// every ten seconds, so `quiet` is less.
    pub async fn settled_snapshot_bytes(&self, quiet: Duration) -> f64 {
        settled(quiet, async || self.metric("appproxy_edge_snapshot_bytes").await).await
    }

    /// Waits until the snapshot is written and resident memory has not moved for `quiet`, and tells how much it is.
    pub async fn settled_resident_bytes(&self, quiet: Duration) -> f64 {
        self.settled_snapshot_bytes(quiet.min(Duration::from_secs(3))).await;
        let id = self.process().id().to_string();
        // What answering costs is no movement.
        settled(quiet, async || (resident_bytes(&id) >> 18) as f64 * f64::from(1 << 18)).await
    }

    /// SIGTERM, and then until it has ended.
    pub fn stop(self) {
        self.service.stop();
    }
}

/// Waits until what `look` sees has been the same for `quiet`.
async fn settled(quiet: Duration, look: impl AsyncFn() -> f64) -> f64 {
    let (mut seen, mut since) = (f64::NAN, Instant::now());
    wait_until_for("an end of changes", SETTLE_LIMIT, async || {
        let now = look().await;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        since.elapsed() >= quiet
    })
    .await;
    seen
}
