//! The configuration files of a cluster, on free ports and in a folder of its own.
//!
//! The edges stand at 127.0.0.1, 127.0.0.2 and so on, as if on machines of their own, so that all listen on the same
//! ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use testkit::manager::Manager;
use testkit::ports::free_port;

use crate::edge::Edge;
use crate::process::{Process, program};

/// Opens circuits. Tests look for it where it must not be.
pub const MANAGER_KEY: &str = "manager-key-of-the-cluster-81b0";

/// Between coordinator and edges. Tests look for it where it must not be.
pub const WORKER_KEY: &str = "worker-key-of-the-cluster-5fd2";

/// What tickets and tokens are signed with.
pub const SIGNING_KEY: &str = "b3e1d2c40f5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// The domain of the authority.
pub const DOMAIN: &str = "apps.test";

/// Configuration, keys, logs.
#[derive(Debug)]
pub struct Files {
    /// Where they are; the programs run in it.
    pub folder: PathBuf,
    api: SocketAddr,
    traffic_port: u16,
}

/// Ports for circuits that no other cluster gets: below those that `testkit::ports` gives, and above those of other
/// test programs.
fn first_port(count: u16) -> u16 {
    const FIRST: u16 = 28_000;
    const SPAN: u16 = 4_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    FIRST + NEXT.fetch_add(count, Ordering::Relaxed) % SPAN
}

// === impl Files ===

impl Files {
    /// Writes them for a cluster whose circuits may have so many ports.
    pub fn write(folder: &Path, database_url: &str, etcd: &str, ports: u16) -> Self {
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("the folder is ours");
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let traffic_port = free_port();
        let ports = match ports {
            0 => String::new(),
            count => {
                let first = first_port(count);
                format!("port_host = \"edge.test\"\nports = \"{first}-{}\"\n", first + count - 1)
            }
        };
        write("keys", &format!("manager {MANAGER_KEY}\nworker {WORKER_KEY}\n"));
        write("signing-keys", SIGNING_KEY);
        write("worker.key", WORKER_KEY);
        write("database-url", database_url);
        let registry = format!("[registry]\nendpoints = [\"{etcd}\"]\n");
        // A busy machine must not turn a 201 into a 202.
        write(
            "coordinator.toml",
            &format!(
                "[api]\nbind = \"{api}\"\nkeys_file = \"keys\"\n\
                 [access]\nsigning_keys_file = \"signing-keys\"\n[database]\nurl_file = \"database-url\"\n{registry}\
                 reconcile_interval_s = 2\n[circuits]\napply_timeout_ms = 30000\n[workers]\nlost_after_s = 60\n"
            ),
        );
        write(
            "edge.toml",
            &format!(
                "[worker]\nid = \"\"\nauthority = \"main\"\napi_url = \"\"\n\
                 [listen]\ntraffic = \"\"\ndomain = \"{DOMAIN}\"\n{ports}\
                 [coordinator]\nurl = \"http://{api}\"\nkey_file = \"worker.key\"\nheartbeat_interval_s = 2\n{registry}\
                 [data]\ndir = \"\"\n[targets]\nallow_loopback = true\n[shutdown]\nannounce_s = 0\ndrain_s = 5\n"
            ),
        );
        Self { folder: folder.to_owned(), api, traffic_port }
    }

    /// Whoever opens circuits.
    pub fn manager(&self) -> Manager {
        Manager::new(self.api, MANAGER_KEY)
    }

    /// The coordinator, not started.
    pub fn coordinator(&self, variables: &[(&'static str, String)]) -> Process {
        let arguments = ["serve", "--config", "coordinator.toml"];
        let mut process = Process::new("coordinator", program("appproxy-coordinator"), &arguments, &self.folder);
        for (name, value) in variables {
            process.set(name, value);
        }
        process
    }

    /// An edge, not started. `number` says which address it has.
    pub fn edge(&self, number: u8, variables: &[(&'static str, String)]) -> Edge {
        let id = format!("edge-{number}");
        let address = SocketAddr::from(([127, 0, 0, number], self.traffic_port));
        let arguments = ["serve", "--config", "edge.toml"];
        let mut process = Process::new(&id, program("appproxy-edge"), &arguments, &self.folder);
        process.set("APPPROXY_WORKER__ID", &id);
        process.set("APPPROXY_WORKER__API_URL", &format!("http://{address}"));
        process.set("APPPROXY_LISTEN__TRAFFIC", &address.to_string());
        process.set("APPPROXY_LISTEN__PORT_ADDRESS", &address.ip().to_string());
        process.set("APPPROXY_DATA__DIR", &id);
        for (name, value) in variables {
            process.set(name, value);
        }
        Edge::new(id, address, process)
    }
}
