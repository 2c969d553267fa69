//! The program `appproxy` as it is started by people.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use testkit::wait::within;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::{Manager, port_range};

/// A running `appproxy`.
pub(crate) struct Program {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    pub(crate) manager: Manager,
    /// Where subdomains come in.
    pub(crate) edge: SocketAddr,
}

impl Program {
    /// Starts it on free ports and waits for its line.
    pub(crate) async fn start(data: &Path, api: &str, edge: &str) -> Self {
        let mut child = command()
            .args(["serve", "--api", api, "--edge", edge, "--ports", &port_range(50).to_string()])
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("the ready line", output.next_line()).await.unwrap().expect("it says something");
        assert!(line.starts_with("ready"), "{line}");
        let address = |marker: &str| {
            let rest = line.split_once(marker).unwrap().1;
            rest.split([',', ' ', '/']).next().unwrap().to_owned()
        };
        let api = address("API http://").parse().unwrap();
        let edge = format!("127.0.0.1:{}", address("apps http://*.apps.localhost:")).parse().unwrap();
        let key = std::fs::read_to_string(data.join("api.key")).unwrap();
        Self { child, output, manager: Manager::new(api, key.trim()), edge }
    }

    /// Its number, by which the system tells what it uses.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// How much memory it uses now, in KiB; the most that it has used is forgotten.
    pub(crate) fn forget_peak(&self) -> u64 {
        // proc_pid_clear_refs(5): the peak becomes what is used now.
        std::fs::write(self.process_file("clear_refs"), "5").unwrap();
        self.status_kib("VmRSS:")
    }

    /// The most memory that it has used since then, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(self.process_file("status")).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn process_file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.process_id())
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; answers whether it ended well.
    pub(crate) async fn terminate(mut self) -> bool {
        let pid = nix::unistd::Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        within("the end of the program", self.child.wait()).await.unwrap().success()
    }

    /// The next line of its output.
    pub(crate) async fn line(&mut self) -> String {
        within("a line", self.output.next_line()).await.unwrap().expect("it goes on")
    }
}

/// The program with none of the caller's settings.
pub(crate) fn command() -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_appproxy")));
    command.env_clear().env("APPPROXY_LOG", "warn").stdin(Stdio::null()).kill_on_drop(true);
    command
}
