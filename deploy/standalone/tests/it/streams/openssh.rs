//! OpenSSH, both ends: commands, copies and forwarded ports through a circuit.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use testkit::ports::free_port;
use testkit::wait::{wait_until, within_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::{LIMIT, circuit, run, succeed};
use crate::harness::{Proxy, host_and_port};

/// It starts itself again for each connection, and wants to know its whole path for that.
const SERVER: &str = "/usr/sbin/sshd";

/// Where a server that root runs locks up what it does before a login.
const EMPTY_FOLDER: &str = "/run/sshd";

/// The name that the server's key is known by, whatever port it is reached at.
const HOST: &str = "session-1";

const COPIED: usize = 100 << 20;
const ANSWER: usize = 1 << 20;
const QUESTION: &[u8] = b"all that the client has to say";

/// A server that lets in whoever runs the tests; it ends with its handle.
struct Server {
    folder: TempDir,
    user: String,
    port: u16,
    _process: Child,
}

impl Server {
    async fn start() -> Self {
        assert!(Path::new(SERVER).exists(), "there is no {SERVER}: install openssh-server");
        if geteuid().is_root() {
            DirBuilder::new().recursive(true).mode(0o755).create(EMPTY_FOLDER).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["host_key", "user_key"] {
            succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(name))).await;
        }
        let host_key = std::fs::read_to_string(path("host_key.pub")).unwrap();
        std::fs::write(path("known_hosts"), format!("{HOST} {host_key}")).unwrap();
        let port = free_port();
        let settings = [
            ("ListenAddress", format!("127.0.0.1:{port}")),
            ("HostKey", path("host_key").display().to_string()),
            ("AuthorizedKeysFile", path("user_key.pub").display().to_string()),
            ("AuthenticationMethods", "publickey".to_owned()),
            ("PermitRootLogin", "prohibit-password".to_owned()),
            ("UsePAM", "no".to_owned()),
            // The folder of a test may be writable for others.
            ("StrictModes", "no".to_owned()),
            ("PermitUserRC", "no".to_owned()),
            ("PidFile", "none".to_owned()),
            ("Subsystem", "sftp internal-sftp".to_owned()),
        ];
        let settings: String = settings.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        std::fs::write(path("sshd_config"), settings).unwrap();
        let mut command = Command::new(SERVER);
        command.args(["-D", "-e", "-f"]).arg(path("sshd_config")).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(path("log")).unwrap()).kill_on_drop(true);
        let process = command.spawn().unwrap();
        let user = User::from_uid(geteuid()).unwrap().expect("whoever runs the tests").name;
        let server = Self { folder, user, port, _process: process };
        // New versions punish an address whose connections end without a login, so nobody knocks.
        wait_until("the SSH server", async || server.log().contains("Server listening")).await;
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// `ssh` or `scp` with a key of its own, that takes no other server for this one.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").args(["-F", "none", "-q", "-i"]).arg(self.path("user_key"));
        let known_hosts = format!("UserKnownHostsFile={}", self.path("known_hosts").display());
        let options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR"];
        for option in options.into_iter().chain([known_hosts.as_str(), "GlobalKnownHostsFile=none"]) {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("HostKeyAlias={HOST}"), "-o", &format!("User={}", self.user)]);
        command
    }

    /// `ssh` through `port`.
    fn ssh(&self, port: u16) -> Command {
        let mut command = self.client("ssh");
        command.args(["-p", &port.to_string()]);
        command
    }

    /// Copies a file through `port`.
    async fn copy(&self, port: u16, from: &str, to: &str) {
        let mut command = self.client("scp");
        command.args(["-P", &port.to_string(), from, to]);
        succeed(&mut command).await;
    }
}

/// A server, a proxy, and the port of the circuit between them.
async fn serve() -> (Server, Proxy, u16) {
    let server = Server::start().await;
    let proxy = Proxy::start(10).await;
    let opened = proxy.manager.open(circuit("ssh", ([127, 0, 0, 1], server.port).into())).await;
    let (host, port) = host_and_port(&opened);
    assert_eq!(opened["url"], format!("ssh://{host}"));
    (server, proxy, port)
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    openssl::rand::rand_bytes(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_runs_a_command_and_passes_its_exit_status() {
    let (server, proxy, port) = serve().await;
    for status in [0, 42] {
        let said = format!("echo through the proxy; exit {status}");
        let output = run(server.ssh(port).args(["127.0.0.1", &said])).await;
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), printed.as_ref()), (Some(status), "through the proxy\n"), "{}", server.log());
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_copies_a_hundred_megabytes_there_and_back_unchanged() {
    let (server, proxy, port) = serve().await;
    let [original, there, back] = ["original", "there", "back"].map(|name| server.path(name).display().to_string());
    let bytes = random_bytes(COPIED);
    std::fs::write(&original, &bytes).unwrap();
    let sent = openssl::sha::sha256(&bytes);
    drop(bytes);
    server.copy(port, &original, &format!("127.0.0.1:{there}")).await;
    server.copy(port, &format!("127.0.0.1:{there}"), &back).await;
    for copy in [there, back] {
        assert_eq!(openssl::sha::sha256(&std::fs::read(&copy).unwrap()), sent, "{copy} is another file");
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_port_carries_an_answer_after_the_client_has_said_all() {
    let (server, proxy, port) = serve().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let answer = random_bytes(ANSWER);
    let forwarded = free_port();
    let forward = format!("127.0.0.1:{forwarded}:{}", listener.local_addr().unwrap());
    let answering = tokio::spawn(answer_after_the_end(listener, answer.clone()));
    let mut ssh = server.ssh(port);
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes", "-L", &forward, "127.0.0.1"]);
    let mut client = ssh.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();

    let mut connection = None;
    wait_until("the forwarded port", async || {
        assert_eq!(client.try_wait().unwrap(), None, "ssh has ended: {}", server.log());
        connection = TcpStream::connect(("127.0.0.1", forwarded)).await.ok();
        connection.is_some()
    })
    .await;
    let mut connection = connection.unwrap();
    connection.write_all(QUESTION).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut received = Vec::new();
    within_for("the answer", LIMIT, connection.read_to_end(&mut received)).await.unwrap();
    assert!(received == answer, "{} bytes came, which are not the answer", received.len());
    assert_eq!(answering.await.unwrap(), QUESTION);
    client.kill().await.unwrap();
    proxy.stop().await;
}

/// Takes one connection, and answers when the other side has ended its own; what it had said comes back.
async fn answer_after_the_end(listener: TcpListener, answer: Vec<u8>) -> Vec<u8> {
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut question = Vec::new();
    connection.read_to_end(&mut question).await.unwrap();
    connection.write_all(&answer).await.unwrap();
    question
}
