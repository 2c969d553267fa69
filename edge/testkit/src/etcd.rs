//! A real etcd on free ports, its data in a folder of its own.
//!
//! Two programs are tested against: the distribution's (Debian 12: 3.4) and a current one, which `deploy/test` builds.
//!
//! Invariant: a handle that is returned belongs to an etcd that serves; the process and its data are gone when the
//! handle is dropped.

mod admin;
mod certificates;
mod fake;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use entities::registry::etcd::EtcdRegistry;
use entities::registry::etcd::config::{EtcdConfig, TlsConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use self::admin::{READER, ROOT, credentials};
pub use self::certificates::other_ca_file;
pub use self::fake::{FakeEtcd, RANGE, WATCH};
use crate::ports::free_port;
use crate::wait::wait_until_for;

/// A first start writes and syncs several files; on a loaded machine that takes seconds.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Runs each test, an `async fn` that takes a [`Program`], against both.
#[macro_export]
macro_rules! on_each_etcd {
    ($($test:ident),* $(,)?) => {
        mod distribution {
            $(#[tokio::test] async fn $test() { super::$test($crate::etcd::Program::Distribution).await; })*
        }
        mod current {
            $(#[tokio::test] async fn $test() { super::$test($crate::etcd::Program::Current).await; })*
        }
    };
}

/// Which etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `APPPROXY_TEST_ETCD34`, or `/usr/bin/etcd`: the oldest that is supported.
    Distribution,
    /// `APPPROXY_TEST_ETCD`, or where `deploy/test` puts the one that it builds.
    Current,
}

/// How an etcd is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether clients must use TLS.
    pub is_tls: bool,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    program: Program,
    options: Options,
    folder: TempDir,
    client_port: u16,
    peer_port: u16,
    metrics_port: u16,
    /// `None` between a kill and the next start.
    process: Option<Child>,
    http: reqwest::Client,
}

/// A copy of the data of an etcd.
#[derive(Debug)]
pub struct Copy(TempDir);

// === impl Program ===

impl Program {
    fn path(self) -> PathBuf {
        let (variable, package) = match self {
            Self::Distribution => ("APPPROXY_TEST_ETCD34", "install etcd-server"),
            Self::Current => ("APPPROXY_TEST_ETCD", "`deploy/test --only etcd` builds it"),
        };
        let path = std::env::var_os(variable).map_or_else(|| self.default_path(), PathBuf::from);
        assert!(path.is_file(), "there is no etcd at {}: {package}, or set {variable}", path.display());
        path
    }

    fn default_path(self) -> PathBuf {
        match self {
            Self::Distribution => PathBuf::from("/usr/bin/etcd"),
            Self::Current => {
                let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                    || Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
                    PathBuf::from,
                );
                cache.join("appproxy/etcd/etcd")
            }
        }
    }

    /// The argument that makes watches tell how far they are.
    pub fn progress_argument(self, interval: &str) -> String {
        match self {
            Self::Distribution => format!("--experimental-watch-progress-notify-interval={interval}"),
            Self::Current => format!("--watch-progress-notify-interval={interval}"),
        }
    }
}

// === impl Etcd ===

impl Etcd {
    /// An empty etcd without TLS and login.
    pub async fn start(program: Program) -> Self {
        Self::start_with(program, Options::default()).await
    }

    /// An empty etcd.
    pub async fn start_with(program: Program, options: Options) -> Self {
        let mut etcd = Self {
            program,
            options,
            folder: TempDir::new().expect("a folder"),
            client_port: free_port(),
            peer_port: free_port(),
            metrics_port: free_port(),
            process: None,
            http: reqwest::Client::new(),
        };
        certificates::write(etcd.folder.path());
        etcd.restart().await;
        etcd
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.options.is_tls { "https" } else { "http" }, self.client_port)
    }

    /// How to reach it; it logs nobody in.
    pub fn config(&self) -> EtcdConfig {
        let mut config = EtcdConfig::new([self.endpoint()]);
        if self.options.is_tls {
            let ca_file = certificates::ca_file(self.folder.path());
            config.tls = Some(TlsConfig { ca_file, cert_file: None, key_file: None });
        }
        config
    }

    /// A registry in it.
    pub fn registry(&self) -> EtcdRegistry {
        EtcdRegistry::new(self.config()).expect("a valid configuration")
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the process is ours");
            process.wait().expect("the process is ours");
        }
    }

    /// Ends it as an operator would.
    pub async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        if let Some(mut process) = self.process.take() {
            wait_until_for("etcd's end", START_LIMIT, async || process.try_wait().expect("ours").is_some()).await;
        }
    }

    /// Holds it, as a machine that hangs would, until [`Etcd::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Starts it on the data that it had.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = Some(self.command().spawn().expect("etcd starts"));
        let health = format!("http://127.0.0.1:{}/health", self.metrics_port);
        let Self { process, http, folder, .. } = self;
        wait_until_for("etcd's start", START_LIMIT, async || {
            let ended = process.as_mut().expect("started").try_wait().expect("ours");
            assert!(ended.is_none(), "etcd ended: {}", log(folder.path()));
            matches!(http.get(&health).send().await, Ok(answer) if answer.status().is_success())
        })
        .await;
    }

    /// Starts it without data, at the same address.
    pub async fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("the data of an etcd that ran");
        self.restart().await;
    }

    /// A copy of its data, as a backup has them. It is started again for that.
    pub async fn copy(&mut self) -> Copy {
        self.stop().await;
        let copy = Copy(TempDir::new().expect("a folder"));
        copy_folder(&self.data(), copy.0.path());
        self.restart().await;
        copy
    }

    /// Starts it on a copy of its data, or of those of another etcd.
    pub async fn restore(&mut self, copy: &Copy) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("the data of an etcd that ran");
        copy_folder(copy.0.path(), &self.data());
        self.restart().await;
    }

    /// Everything that it has ever logged or stored, as bytes.
    pub fn everything(&self) -> Vec<u8> {
        let mut bytes = log(self.folder.path()).into_bytes();
        for file in files_below(&self.data()) {
            bytes.extend(std::fs::read(file).unwrap_or_default());
        }
        bytes
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Whether its log, over all starts, holds `text`.
    pub fn has_logged(&self, text: &str) -> bool {
        log(self.folder.path()).contains(text)
    }

    fn command(&self) -> Command {
        let folder = self.folder.path();
        let open_log = || File::options().create(true).append(true).open(folder.join("log")).expect("a log file");
        let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.peer_port));
        let mut command = Command::new(self.program.path());
        command
            .env_clear()
            .arg(format!("--data-dir={}", self.data().display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"))
            .arg(format!("--listen-metrics-urls=http://127.0.0.1:{}", self.metrics_port))
            .arg("--logger=zap")
            .args(&self.options.arguments)
            .stdin(Stdio::null())
            .stdout(open_log())
            .stderr(open_log());
        if self.options.is_tls {
            command.args(certificates::arguments(folder));
        }
        command
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process_id().try_into().expect("a process id")), signal).expect("the process is ours");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

fn copy_folder(from: &Path, to: &Path) {
    for file in files_below(from) {
        let copy = to.join(file.strip_prefix(from).expect("it lies below"));
        std::fs::create_dir_all(copy.parent().expect("it has one")).expect("the folder is ours");
        std::fs::copy(&file, &copy).expect("both are ours");
    }
}
