//! Resident memory for each idle WebSocket, after it has carried 1 KB each way: the edge against haproxy and nginx.
//!
//! Invariant: all have the same target and the same client, and each is looked at before its first connection and after
//! all of them have been silent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use benches::circuits::DOMAIN;
use benches::process::{AppProxy, Process, neighbour, resident_bytes};
use benches::report::{Report, rounded};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::echo::{AGREED, Target, read_head};
use crate::tools::{Haproxy, Nginx};

const SUBDOMAIN: &str = "idle";

/// Options of `load tunnels`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connections through each proxy.
    #[arg(long, default_value_t = 3_000)]
    count: usize,
    /// Seconds of silence before the second look.
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
    /// The program [default: the one beside this]
    #[arg(long)]
    appproxy: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) {
    program::system::raise_descriptor_limit();
    let program = args.appproxy.clone().unwrap_or_else(|| neighbour("appproxy"));
    let dir = tempfile::tempdir().expect("a folder");
    let target = Target::Upgrades.start().await;
    let appproxy = AppProxy::start(&program, &dir.path().join("data"));
    appproxy.open("http", json!({"mode": "subdomain", "subdomain": SUBDOMAIN}), target).await;
    let haproxy = Haproxy::start(dir.path(), "http", target);
    let nginx = Nginx::upgrading(dir.path(), target);
    let contenders = [
        ("edge", appproxy.edge, appproxy.process()),
        ("haproxy", haproxy.address, &haproxy.process),
        ("nginx", nginx.address, &nginx.process),
    ];
    let mut report = Report::new("tunnels", &["proxy", "tunnels", "before_mib", "after_mib", "kib_each"]);
    for (name, address, process) in contenders {
        // One that is not counted, so that what is set up once is there.
        drop(open(address).await);
        let before = family_bytes(process);
        let mut tunnels = Vec::with_capacity(args.count);
        for _ in 0..args.count {
            tunnels.push(open(address).await);
        }
        tokio::time::sleep(Duration::from_secs(args.idle_s)).await;
        let after = family_bytes(process);
        let mib = |bytes: u64| rounded(bytes as f64 / f64::from(1 << 20), 1);
        let each = after.saturating_sub(before) as f64 / 1024.0 / args.count as f64;
        report.row(vec![json!(name), json!(args.count), mib(before), mib(after), rounded(each, 2)]);
        drop(tunnels);
    }
    report.print();
    appproxy.stop();
}

/// A tunnel that has carried 1 KB each way.
async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the proxy listens");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {SUBDOMAIN}.{DOMAIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let head = read_head(&mut stream).await.expect("an answer");
    assert!(head.starts_with(AGREED.as_bytes().split_at(12).0), "{}", String::from_utf8_lossy(&head));
    let mut block = [7; 1024];
    stream.write_all(&block).await.expect("sent");
    stream.read_exact(&mut block).await.expect("an echo");
    stream
}

/// Of a process and its direct children: nginx has its connections in a worker.
fn family_bytes(process: &Process) -> u64 {
    let id = process.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let children: u64 = children.split_whitespace().map(resident_bytes).sum();
    process.resident_bytes() + children
}
