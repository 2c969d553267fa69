//! What passes is not held: the proxy's memory stays the same however much it carries.

use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use super::bulk::{Bulk, Target, content_length};
use super::circuit;
use crate::harness::{self, host_and_port};
use crate::program::Program;

const MIB: usize = 1 << 20;
const KIB_PER_MIB: u64 = 1 << 10;

/// What one connection may cost at most, the buffers of both directions included.
const GROWTH_LIMIT_KIB: u64 = 32 * KIB_PER_MIB;

/// The proxy as people start it, because the memory of a process is that of all its tests.
struct Watched {
    program: Program,
    _data: TempDir,
}

// === impl Watched ===

impl Watched {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let program = Program::start(data.path(), "127.0.0.1:0", "127.0.0.1:0").await;
        Self { program, _data: data }
    }

    /// Opens a circuit; where it is reached, as a `Host` field and as an address.
    async fn open(&self, body: Value) -> (String, SocketAddr) {
        let opened = self.program.manager.open(body).await;
        let (host, port) = host_and_port(&opened);
        (host, ([127, 0, 0, 1], port).into())
    }

    /// What it uses now; the most that it has used is forgotten.
    fn forget_peak(&self) -> u64 {
        self.program.forget_peak()
    }

    /// Fails if it has used much more than `before_kib` at any moment.
    fn assert_flat(&self, before_kib: u64, what: &str) {
        let growth_kib = self.program.peak_kib().saturating_sub(before_kib);
        println!("{what}: {growth_kib} KiB more than {before_kib} KiB");
        assert!(growth_kib < GROWTH_LIMIT_KIB, "{what}: {growth_kib} KiB more than {before_kib} KiB");
    }

    async fn stop(self) {
        assert!(self.program.terminate().await, "it ends well");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_a_hundred_megabytes_passes_in_constant_memory() {
    let count = 100 * MIB;
    let proxy = Watched::start().await;
    let target = Target::of_requests(count).await;
    let (host, address) = proxy.open(harness::circuit("s1", "upload", "port", &[target.address])).await;
    let mut client = Bulk::connect(address).await;

    let before_kib = proxy.forget_peak();
    let (host, length) = (format!("Host: {host}"), format!("Content-Length: {count}"));
    client.say(&["POST /upload HTTP/1.1", &host, &length, "Connection: close"]).await;
    client.send(count).await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    proxy.assert_flat(before_kib, "an upload of 100 MiB");
    proxy.stop().await;
    target.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_of_two_hundred_megabytes_passes_in_constant_memory() {
    let count = 200 * MIB;
    let proxy = Watched::start().await;
    let target = Target::of_requests(count).await;
    let (host, address) = proxy.open(harness::circuit("s1", "download", "port", &[target.address])).await;
    let mut client = Bulk::connect(address).await;

    let before_kib = proxy.forget_peak();
    client.say(&["GET /download HTTP/1.1", &format!("Host: {host}"), "Connection: close"]).await;
    let head = client.head().await.unwrap();
    assert_eq!((head.starts_with("http/1.1 200 "), content_length(&head)), (true, count), "{head}");
    client.receive(count).await;
    proxy.assert_flat(before_kib, "a download of 200 MiB");
    proxy.stop().await;
    target.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_each_way_passes_a_byte_stream_in_constant_memory() {
    let count = 1024 * MIB;
    let proxy = Watched::start().await;
    let target = Target::of_bytes(count).await;
    let (_, address) = proxy.open(circuit("tcp", target.address)).await;
    let client = Bulk::connect(address).await;

    let before_kib = proxy.forget_peak();
    client.exchange(count).await;
    target.finish().await;
    proxy.assert_flat(before_kib, "1 GiB each way through a byte stream");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarter_of_a_gigabyte_each_way_passes_a_tunnel_in_constant_memory() {
    let count = 256 * MIB;
    let proxy = Watched::start().await;
    let target = Target::of_requests(count).await;
    let (host, address) = proxy.open(harness::circuit("s1", "tunnel", "port", &[target.address])).await;
    let mut client = Bulk::connect(address).await;

    let before_kib = proxy.forget_peak();
    let host = format!("Host: {host}");
    client.say(&["GET /tunnel HTTP/1.1", &host, "Connection: Upgrade", "Upgrade: bytes"]).await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    client.exchange(count).await;
    target.finish().await;
    proxy.assert_flat(before_kib, "256 MiB each way through a tunnel");
    proxy.stop().await;
}
