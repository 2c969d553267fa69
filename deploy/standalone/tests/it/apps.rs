//! Real applications through the proxy: JupyterLab, TensorBoard, a Python WebSocket client.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use testkit::client::client;
use testkit::origin::Origin;
use testkit::ports::free_port;
use tokio::process::{Child, Command};

use crate::harness::{Proxy, circuit};

const TOKEN: &str = "test-token";

/// How long an application may take to answer on a busy machine.
const START_LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

/// The Python with the applications in it: `deploy/test` makes it and says where.
pub(crate) fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("APPPROXY_TEST_PYTHON") {
        return PathBuf::from(path);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let path = cache.unwrap_or_default().join("appproxy/venv/bin/python");
    assert!(path.exists(), "no Python with JupyterLab: run deploy/test once, or set APPPROXY_TEST_PYTHON");
    path
}

pub(crate) fn driver(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../apps").join(name)
}

pub(crate) fn chromium() -> String {
    std::env::var("APPPROXY_TEST_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned())
}

/// Runs a driver to its end; what it printed comes back.
async fn run(name: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(python()).arg(driver(name)).args(arguments).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {errors}");
    output.stdout
}

/// Runs a driver to its end and reads the line that it prints.
pub(crate) async fn drive(name: &str, arguments: &[&str]) -> Value {
    serde_json::from_slice(&run(name, arguments).await).unwrap()
}

/// An application that ends with its handle.
struct App {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl App {
    async fn jupyter() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(python());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
        for (variable, name) in [
            ("HOME", "home"),
            ("JUPYTER_CONFIG_DIR", "config"),
            ("JUPYTER_DATA_DIR", "data"),
            ("JUPYTER_RUNTIME_DIR", "runtime"),
            ("IPYTHONDIR", "ipython"),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            command.env(variable, path);
        }
        let notebooks = folder.path().join("notebooks");
        std::fs::create_dir(&notebooks).unwrap();
        command
            .args(["-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"])
            .args(["--ServerApp.port_retries=0", "--ServerApp.allow_remote_access=True"])
            .arg(format!("--port={port}"))
            .arg(format!("--ServerApp.root_dir={}", notebooks.display()))
            .arg(format!("--IdentityProvider.token={TOKEN}"))
            .arg("--LabApp.expose_app_in_browser=True");
        Self::start(command, port, folder, "/api").await
    }

    async fn tensorboard() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().to_str().unwrap().to_owned();
        run("tensorboard_page.py", &["--write-events", &logs]).await;
        let port = free_port();
        let mut command = Command::new(python());
        command.args(["-m", "tensorboard.main", "--host", "127.0.0.1", "--load_fast=false"]).args([
            "--logdir",
            &logs,
            "--port",
            &port.to_string(),
        ]);
        Self::start(command, port, folder, "/data/environment").await
    }

    async fn websockets() -> Self {
        let port = free_port();
        let mut command = Command::new(python());
        command.arg(driver("websocket_suite.py")).args(["--serve", &port.to_string()]);
        Self::start(command, port, tempfile::tempdir().unwrap(), "/").await
    }

    async fn start(mut command: Command, port: u16, folder: TempDir, answers_at: &str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}{answers_at}");
        let is_up = async || client().get(&url).send().await.is_ok_and(|reply| reply.status().is_success());
        testkit::wait::wait_until_for("the application's first answer", START_LIMIT, is_up).await;
        Self { child, port, _folder: folder }
    }

    /// SIGTERM, so that it ends what it started itself.
    async fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        testkit::wait::within("the end of the application", self.child.wait()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jupyterlab_computes_through_a_subdomain_and_through_a_port() {
    let jupyter = App::jupyter().await;
    let proxy = Proxy::start(10).await;
    for mode in ["subdomain", "port"] {
        let target = ([127, 0, 0, 1], jupyter.port).into();
        let opened = proxy.manager.open(circuit("s1", &format!("jupyter-{mode}"), mode, &[target])).await;
        let url = opened["url"].as_str().unwrap();
        let answer = drive("jupyter_session.py", &["--url", url, "--token", TOKEN]).await;
        assert_eq!((&answer["ok"], &answer["output"]), (&Value::Bool(true), &Value::from("42")), "{mode}: {answer}");
    }
    proxy.stop().await;
    jupyter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notebook_runs_in_a_browser_through_the_proxy() {
    let jupyter = App::jupyter().await;
    let proxy = Proxy::start(10).await;
    let target = ([127, 0, 0, 1], jupyter.port).into();
    let opened = proxy.manager.open(circuit("s1", "jupyter", "subdomain", &[target])).await;
    let chromium = chromium();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("notebook.png");
    let url = opened["url"].as_str().unwrap();
    let arguments =
        ["--url", url, "--token", TOKEN, "--out", picture.to_str().unwrap(), "--chromium", chromium.as_str()];
    let answer = drive("jupyter_screenshot.py", &arguments).await;
    assert_eq!(answer["output"], "through the App Proxy: 42", "{answer}");
    assert!(picture.metadata().unwrap().len() > 10_000, "the picture shows something");
    proxy.stop().await;
    jupyter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_works_in_a_browser_through_the_proxy() {
    let jupyter = App::jupyter().await;
    let proxy = Proxy::start(10).await;
    let target = ([127, 0, 0, 1], jupyter.port).into();
    let opened = proxy.manager.open(circuit("s1", "jupyter", "subdomain", &[target])).await;
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("terminal.png");
    let (url, chromium) = (opened["url"].as_str().unwrap(), chromium());
    let arguments = ["--url", url, "--token", TOKEN, "--out", picture.to_str().unwrap(), "--chromium", &chromium];
    let answer = drive("jupyter_terminal.py", &arguments).await;
    assert_eq!(answer["output"], "through-42", "{answer}");
    proxy.stop().await;
    jupyter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_of_a_python_application_pass_every_case_of_the_suite() {
    let app = App::websockets().await;
    let proxy = Proxy::start(10).await;
    let target = ([127, 0, 0, 1], app.port).into();
    for mode in ["subdomain", "port"] {
        let opened = proxy.manager.open(circuit("s1", &format!("ws-{mode}"), mode, &[target])).await;
        let url = opened["url"].as_str().unwrap().replacen("http", "ws", 1);
        let answer = drive("websocket_suite.py", &["--url", &url]).await;
        assert_eq!((&answer["ok"], &answer["cases"]), (&Value::Bool(true), &Value::from(14)), "{mode}: {answer}");
    }
    proxy.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tensorboard_shows_its_runs_through_the_proxy() {
    let tensorboard = App::tensorboard().await;
    let proxy = Proxy::start(10).await;
    let target = ([127, 0, 0, 1], tensorboard.port).into();
    let opened = proxy.manager.open(circuit("s1", "tensorboard", "subdomain", &[target])).await;
    let answer = drive("tensorboard_page.py", &["--url", opened["url"].as_str().unwrap(), "--run", "demo"]).await;
    assert_eq!(answer["ok"], true, "{answer}");
    proxy.stop().await;
    tensorboard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_websocket_client_exchanges_numbered_messages_through_the_proxy() {
    let origin = Origin::start("app").await;
    let proxy = Proxy::start(10).await;
    for mode in ["subdomain", "port"] {
        let opened = proxy.manager.open(circuit("s1", &format!("ws-{mode}"), mode, &[origin.address()])).await;
        let url = opened["url"].as_str().unwrap().replacen("http", "ws", 1) + "ws";
        let answer = drive("websocket_session.py", &["--url", &url, "--messages", "200"]).await;
        assert_eq!(answer["ok"], true, "{mode}: {answer}");
    }
    proxy.stop().await;
}
