//! HTTP/2 as other people's programs see it: `h2load`, and the conformance tests of `h2spec`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use testkit::http2::Http2Origin;
use testkit::manager::host_and_port;
use testkit::wait::wait_until;
use tokio::process::Command;

use crate::bare::Bare;
use crate::harness::{Proxy, circuit};

/// How long all cases may take on a busy machine.
const H2SPEC_LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

async fn open(proxy: &Proxy, target: SocketAddr) -> u16 {
    let mut body = circuit("s1", "http2", "port", &[target]);
    body["protocol"] = "h2".into();
    host_and_port(&proxy.manager.open(body).await).1
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_with_many_streams_have_all_their_requests_answered() {
    let (proxy, origin) = (Proxy::start(10).await, Http2Origin::start("app").await);
    let port = open(&proxy, origin.address()).await;
    let mut h2load = Command::new("h2load");
    h2load.args(["--requests=5000", "--clients=10", "--max-concurrent-streams=10"]);
    let output = h2load.arg(format!("http://127.0.0.1:{port}/")).output().await.expect("h2load is installed");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let counts = "5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(report.contains(counts), "{report}");
    assert!(report.contains("status codes: 5000 2xx"), "{report}");
    proxy.stop().await;
}

/// `deploy/test` builds it and says where.
fn h2spec() -> PathBuf {
    if let Some(path) = std::env::var_os("APPPROXY_TEST_H2SPEC") {
        return PathBuf::from(path);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let path = cache.unwrap_or_default().join("appproxy/h2spec/h2spec");
    assert!(path.exists(), "no h2spec: run deploy/test once, or set APPPROXY_TEST_H2SPEC");
    path
}

/// Runs the cases of HTTP/2 and says of each whether it passed.
async fn cases_at(port: u16, folder: &Path) -> BTreeMap<String, bool> {
    let report = folder.join(format!("{port}.xml"));
    let mut command = Command::new(h2spec());
    command.args(["generic", "http2", "--host=127.0.0.1", "--timeout=2"]).arg(format!("--port={port}"));
    // It exits 1 if a case failed, which the report says better.
    let run = command.arg("--junit-report").arg(&report).kill_on_drop(true).output();
    tokio::time::timeout(H2SPEC_LIMIT, run).await.expect("h2spec ends in time").unwrap();
    cases_of(&std::fs::read_to_string(report).unwrap())
}

/// The cases of a JUnit report as h2spec writes it.
fn cases_of(report: &str) -> BTreeMap<String, bool> {
    let case = |text: &str| {
        let (attributes, content) = text.split_once('>').unwrap();
        let value = |name: &str| {
            let (_, rest) = attributes.split_once(&format!("{name}=\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        };
        let name = format!("{}: {}", value("package"), value("classname"));
        (name, !content.contains("<failure") && !content.contains("<error"))
    };
    report.split("<testcase ").skip(1).map(case).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_conforms_wherever_pingora_does() {
    let (proxy, origin) = (Proxy::start(10).await, Http2Origin::start("app").await);
    let port = open(&proxy, origin.address()).await;
    let bare = Bare::start(origin.address());
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = tokio::join!(cases_at(port, folder.path()), cases_at(bare.port, folder.path()));
    assert!(ours.len() > 100 && ours.keys().eq(theirs.keys()), "all cases are in both reports: {}", ours.len());
    let failed: Vec<&String> = ours.iter().filter(|(_, passed)| !*passed).map(|(name, _)| name).collect();
    let excused: Vec<&String> = theirs.iter().filter(|(_, passed)| !*passed).map(|(name, _)| name).collect();
    println!("{} cases, failed: {failed:#?}, of pingora: {excused:#?}", ours.len());
    assert!(failed.iter().all(|name| excused.contains(name)), "failed: {failed:#?}, excused: {excused:#?}");
    bare.stop().await;
    wait_until("the requests to have arrived", async || !origin.requests().is_empty()).await;
    proxy.stop().await;
}
