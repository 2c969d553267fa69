//! A real PostgreSQL on a free port, its data in a folder of its own.
//!
//! PostgreSQL refuses to run as root, so root runs it as the user that its package makes.
//!
//! Invariant: a handle that is returned belongs to a server that takes connections; the process and its data are gone
//! when the handle is dropped, and those of the shared one when the test process ends.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::wait::block_until;

/// Owns the databases; its password stands in every address that this module gives out.
pub const USER: &str = "appproxy";

/// May do everything; it has the same password.
const ADMINISTRATOR: &str = "administrator";

/// Tests look for it where it must not be.
pub const PASSWORD: &str = "postgres-password-6b1f";

/// A first start, or one that replays a log, on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    port: u16,
    /// Who runs it, unless it is whoever runs the tests.
    user: Option<User>,
    /// `None` between a kill and the next start.
    process: Option<Child>,
    databases: AtomicUsize,
}

/// The server that the tests of one process share.
struct Shared {
    server: Postgres,
    /// Ends the server when this process, and with it the other end of its standard input, is gone.
    _guard: Child,
}

// === impl Postgres ===

impl Postgres {
    /// An empty server of the caller's own.
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let user = geteuid().is_root().then(|| {
            let name = std::env::var("APPPROXY_TEST_POSTGRES_USER").unwrap_or_else(|_| "postgres".to_owned());
            User::from_name(&name).expect("users can be read").unwrap_or_else(|| panic!("there is no user {name}"))
        });
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid), Some(user.gid)).expect("root may");
        }
        let mut server = Self { folder, port: free_port(), user, process: None, databases: AtomicUsize::new(0) };
        server.initialise();
        server.restart();
        // The password is not for the log.
        let create = format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'");
        server.run("postgres", &["SET log_statement = 'none'", &create]);
        server
    }

    /// The server that the tests of this process share, started when it is first asked for.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Shared> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            let server = Self::start();
            let mut guard = Command::new("/bin/sh");
            guard.args(["-c", "read -r _; kill -QUIT \"$0\"; rm -rf -- \"$1\""]);
            guard.arg(server.process_id().to_string()).arg(server.folder.path()).stdin(Stdio::piped());
            // What a terminal sends to the tests must not end the guard first.
            guard.process_group(0);
            Shared { server, _guard: guard.spawn().expect("a shell") }
        });
        &shared.server
    }

    /// The address of a new database.
    pub fn create_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run_sql("postgres", &format!("CREATE DATABASE {name} OWNER {USER}"));
        self.url(USER, &name)
    }

    /// Where it listens; each address of a database contains it.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:{PASSWORD}@{}/{database}", self.address())
    }

    /// The number of the process that all others of it are children of.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Cuts every connection of [`USER`], as a failing network would.
    pub fn cut_connections(&self) {
        let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'");
        self.run_sql("postgres", &cut);
    }

    /// Everything that is stored in a database, as text.
    pub fn dump(&self, database_url: &str) -> String {
        let mut dump = Command::new(program("pg_dump"));
        let output = dump.arg(database_url).output().expect("pg_dump runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs statements as an administrator, and gives back what they print, without headings.
    pub fn run_sql(&self, database: &str, sql: &str) -> String {
        self.run(database, &[sql])
    }

    fn run(&self, database: &str, statements: &[&str]) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        psql.args(statements.iter().flat_map(|statement| ["--command", statement]));
        let output = psql.arg(self.url(ADMINISTRATOR, database)).output().expect("psql runs");
        assert!(output.status.success(), "{statements:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the process is ours");
            process.wait().expect("the process is ours");
        }
    }

    /// Ends it as an operator in a hurry would: connections are cut, data are written.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGINT);
        if let Some(mut process) = self.process.take() {
            process.wait().expect("the process is ours");
        }
    }

    /// Starts it on the data that it had.
    pub fn restart(&mut self) {
        self.kill();
        let data = self.data();
        // Processes that outlived a killed server hold its memory until they notice.
        block_until("PostgreSQL's start", START_LIMIT, || {
            let is_running = matches!(self.process.as_mut().map(Child::try_wait), Some(Ok(None)));
            if !is_running {
                let mut command = self.command("postgres");
                command.arg("-D").arg(&data).arg("-p").arg(self.port.to_string());
                self.process = Some(command.spawn().expect("PostgreSQL starts"));
            }
            let mut ready = Command::new(program("pg_isready"));
            ready.args(["--quiet", "--host=127.0.0.1", "--port", &self.port.to_string()]);
            ready.status().is_ok_and(|status| status.success())
        });
    }

    /// Holds it, as a machine that hangs would, until [`Postgres::thaw`].
    pub fn freeze(&self) {
        self.signal_all("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal_all("CONT");
    }

    /// What it has logged, over all starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn initialise(&self) {
        let password = self.folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("writable");
        std::fs::set_permissions(&password, PermissionsExt::from_mode(0o644)).expect("ours");
        let mut command = self.command("initdb");
        command.args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
            "--username",
            ADMINISTRATOR,
        ]);
        command.arg("--pwfile").arg(&password).arg("-D").arg(self.data());
        assert!(command.status().expect("initdb runs").success(), "{}", self.log());
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\nmax_connections = 200\n\
             log_statement = 'all'\n",
            self.folder.path().display()
        );
        let mut file = File::options().append(true).open(self.data().join("postgresql.conf")).expect("initdb made it");
        std::io::Write::write_all(&mut file, settings.as_bytes()).expect("writable");
    }

    fn command(&self, name: &str) -> Command {
        let open_log = || {
            let path = self.folder.path().join("log");
            File::options().create(true).append(true).open(path).expect("a log file")
        };
        let mut command = Command::new(program(name));
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(open_log()).stderr(open_log());
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process_id().try_into().expect("a process id")), signal).expect("the process is ours");
    }

    /// Each connection has a process of its own, a child of the server.
    fn signal_all(&self, signal: &str) {
        let parent = self.process_id().to_string();
        let status = Command::new("pkill").args(["--signal", signal, "--parent", &parent]).status();
        assert!(status.is_ok_and(|status| status.success()), "the server has processes");
        Command::new("kill").args([&format!("-{signal}"), &parent]).status().expect("kill runs");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
    }
}

/// A program of PostgreSQL: in `APPPROXY_TEST_POSTGRES`, or of the newest version that the distribution has.
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("APPPROXY_TEST_POSTGRES").map(PathBuf::from).or_else(newest);
    let path = folder.map(|folder| folder.join(name)).filter(|path| path.is_file());
    path.unwrap_or_else(|| panic!("there is no {name}: install postgresql, or set APPPROXY_TEST_POSTGRES"))
}

fn newest() -> Option<PathBuf> {
    let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    let version = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| version(entry.ok()?)).max()?;
    Some(Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin"))
}
