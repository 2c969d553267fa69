//! Programs in processes of their own, and what the kernel says about them.
//!
//! Invariant: what is started here ends when its handle is dropped.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use entities::authority::PortRange;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testkit::ports::free_port;

use crate::circuits::DOMAIN;

/// The unit of the times in `/proc/PID/stat` on every machine that Rust calls tier 1 (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program may take to end before it is killed.
const TIME_TO_END: Duration = Duration::from_secs(5);

/// Where dynamic ports listen: an address of the loopback network that nobody else uses, so that every port is free.
pub const PORT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 61, 30, 1));

/// A process.
#[derive(Debug)]
pub struct Process(Child);

/// The program `appproxy`, ready.
#[derive(Debug)]
pub struct AppProxy {
    process: Process,
    /// Where the API answers.
    pub api: SocketAddr,
    /// Where subdomain traffic goes.
    pub edge: SocketAddr,
    /// The manager's key.
    pub key: String,
    /// How long it took from its start until it said so.
    pub ready_after: Duration,
}

/// A program that was built together with this one.
pub fn neighbour(name: &str) -> PathBuf {
    let path = std::env::current_exe().expect("a path").with_file_name(name);
    assert!(path.exists(), "{} is not there; build the whole workspace", path.display());
    path
}

/// The ports that a proxy gives here.
pub fn port_range() -> PortRange {
    "20000-29999".parse().expect("valid")
}

// === impl Process ===

impl Process {
    /// Starts a program; pinned to one processor if that is given.
    pub fn start(command: Command, cpu: Option<usize>) -> Self {
        let mut command = pinned(command, cpu);
        let program = format!("{:?}", command.get_program());
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{program} does not start: {error}")))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Processor time of all of its threads so far, and of its direct children, in seconds.
    pub fn cpu_s(&self) -> f64 {
        family_cpu_s(self.id())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Sends a signal to a process that runs.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().expect("a process id")), signal).expect("the process is ours");
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(&self.id().to_string())
    }

    /// SIGTERM, and then until it has ended.
    pub fn stop(mut self) {
        self.terminate();
        self.0.wait().expect("it ends");
    }

    fn terminate(&mut self) {
        // Its number stays its own until somebody waits for it, and here nobody else does.
        if let (Ok(None), Ok(id)) = (self.0.try_wait(), i32::try_from(self.id())) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First in order, because nginx would leave its workers behind; what does not listen has to go all the same.
        self.terminate();
        let start = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && start.elapsed() < TIME_TO_END {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Nothing is left to do for one that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pinned(command: Command, cpu: Option<usize>) -> Command {
    let Some(cpu) = cpu else { return command };
    let mut outer = Command::new("taskset");
    outer.args(["-c", &cpu.to_string()]).arg(command.get_program()).args(command.get_args());
    outer
}

/// Processor time of a process and of its direct children so far, in seconds.
pub fn family_cpu_s(id: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|id| id.parse().ok());
    std::iter::once(id).chain(children).map(cpu_s).sum()
}

fn cpu_s(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    // utime and stime are fields 14 and 15, and this list begins with field 3.
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

/// Resident memory of a process, `self` for this one, in bytes.
pub fn resident_bytes(id: &str) -> u64 {
    memory_bytes(id, "status", "VmRSS:")
}

/// The same, but of pages that several processes have only this one's share: the programs here share their own text.
pub fn proportional_bytes(id: &str) -> u64 {
    memory_bytes(id, "smaps_rollup", "Pss:")
}

/// The most that was resident so far, in bytes.
pub fn peak_resident_bytes(id: &str) -> u64 {
    memory_bytes(id, "status", "VmHWM:")
}

fn memory_bytes(id: &str, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/{file}")).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// Waits until something listens.
pub fn wait_for_port(address: SocketAddr) {
    let start = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < PATIENCE, "nothing listens on {address}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// === impl AppProxy ===

impl AppProxy {
    /// Starts `program` on a data folder.
    pub fn start(program: &Path, dir: &Path) -> Self {
        Self::start_on(program, dir, None)
    }

    /// The same, pinned to one processor if that is given.
    pub fn start_on(program: &Path, dir: &Path, cpu: Option<usize>) -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (api, edge) = (address(), address());
        let mut command = Command::new(program);
        command
            .args(["--data", &dir.display().to_string()])
            .args(["--api", &api.to_string(), "--edge", &edge.to_string()])
            .args(["--domain", DOMAIN, "--ports", &port_range().to_string()])
            .args(["--port-address", &PORT_ADDRESS.to_string(), "--log", "error"])
            .stdout(Stdio::piped());
        let start = Instant::now();
        let mut process = Process::start(command, cpu);
        let output = process.0.stdout.take().expect("piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.find(|line| line.starts_with("ready")).expect("the proxy becomes ready");
        let ready_after = start.elapsed();
        let key = std::fs::read_to_string(dir.join("api.key")).expect("it is ready").trim().to_owned();
        Self { process, api, edge, key, ready_after }
    }

    /// Opens a circuit; the address of its port comes back, or that of the edge if it has none.
    pub async fn open(&self, protocol: &str, frontend: Value, target: SocketAddr) -> SocketAddr {
        let body = json!({
            "session_id": "bench", "service": protocol, "protocol": protocol, "frontend": frontend,
            "targets": [{"host": target.ip().to_string(), "port": target.port()}],
            "access": {"public": true},
        });
        let client = testkit::client::client();
        let request = client.post(format!("http://{}/v2/circuits", self.api)).bearer_auth(&self.key).json(&body);
        let reply = request.send().await.expect("the coordinator answers");
        let (status, opened) = (reply.status(), reply.json::<Value>().await.expect("JSON"));
        assert_eq!(status, reqwest::StatusCode::CREATED, "{opened}");
        let port = opened["frontend"]["port"].as_u64().map(|port| u16::try_from(port).expect("a port"));
        port.map_or(self.edge, |port| SocketAddr::new(PORT_ADDRESS, port))
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// SIGTERM, and then until it has ended.
    pub fn stop(self) {
        self.process.stop();
    }
}
