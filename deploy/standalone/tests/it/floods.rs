//! Clients that tire the proxy, what they cost its process, and what they cost others.
//!
//! `APPPROXY_TEST_FLOOD=full` opens as many slow connections as the budget speaks of.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::frames::{FrameClient, INITIAL_WINDOW_SIZE, flag, frame, get, kind};
use testkit::http2::Http2Origin;
use testkit::origin::Origin;
use testkit::raw::RawClient;
use testkit::wait::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::harness::{circuit, host_and_port};
use crate::program::Program;

const ENHANCE_YOUR_CALM: u32 = 11;

/// What one hostile connection may add to the memory of the process.
const GROWTH_LIMIT_KIB: u64 = 1_024;

/// Connections that are hostile at a time: enough that what one costs shows beside what the process does anyway.
const HOSTILE: usize = 32;

/// How long a client may take for a head.
const HEAD_TIME: Duration = Duration::from_secs(30);

async fn started() -> (Program, TempDir) {
    program::system::raise_descriptor_limit();
    let data = tempfile::tempdir().unwrap();
    (Program::start(data.path(), "127.0.0.1:0", "127.0.0.1:0").await, data)
}

/// A circuit of HTTP/2 on a port.
async fn open_http2(program: &Program, target: SocketAddr, backend: &str) -> SocketAddr {
    let mut body: Value = circuit("s1", &format!("flood-{backend}"), "port", &[target]);
    body["protocol"] = json!("h2");
    body["backend"] = json!(backend);
    let (_, port) = host_and_port(&program.manager.open(body).await);
    ([127, 0, 0, 1], port).into()
}

/// Lets `HOSTILE` clients at the proxy, each until it is cut off, and says how much the process grew for each.
async fn growth_kib<F: Future<Output = Option<u32>> + Send + 'static>(
    program: &Program,
    mut client: impl FnMut() -> F,
) -> u64 {
    let before_kib = program.forget_peak();
    let clients: JoinSet<Option<u32>> = (0..HOSTILE).map(|_| client()).collect();
    for code in clients.join_all().await {
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "the connection is cut off");
    }
    program.peak_kib().saturating_sub(before_kib) / HOSTILE as u64
}

async fn reset_rapidly(address: SocketAddr) -> Option<u32> {
    let mut client = FrameClient::connect(address, &[]).await;
    for number in 0..5_000 {
        let stream = 2 * number + 1;
        let opened = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &get("/hold"));
        let reset = frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        if !client.send(&[opened, reset].concat()).await {
            break;
        }
    }
    client.wait_for_goaway().await
}

async fn open_tiny_windows(address: SocketAddr) -> Option<u32> {
    let mut client = FrameClient::connect(address, &[(INITIAL_WINDOW_SIZE, 1)]).await;
    for number in 0..10 {
        let flags = flag::END_HEADERS | flag::END_STREAM;
        client.send(&frame(kind::HEADERS, flags, 2 * number + 1, &get("/large"))).await;
    }
    loop {
        let read = client.next().await?;
        match read.kind {
            kind::DATA => {
                client.send(&frame(kind::WINDOW_UPDATE, 0, read.stream, &[0, 0, 0, 1])).await;
            }
            kind::GOAWAY => return Some(u32::from_be_bytes(read.payload.get(4..8)?.try_into().ok()?)),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_of_http2_are_cut_off_before_they_cost_a_mebibyte_each() {
    let (program, _data) = started().await;
    let (holding, large) = (Http2Origin::start("lab").await, Origin::start("lab").await);
    let body = vec![b'a'; 8 << 20];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    large.answer("/large", &[head.into_bytes(), body].concat());
    let held = open_http2(&program, holding.address(), "h2").await;
    let answered = open_http2(&program, large.address(), "http").await;
    // What is there once, for whoever comes first, is not what a client costs.
    reset_rapidly(held).await;
    open_tiny_windows(answered).await;
    let resets = growth_kib(&program, || reset_rapidly(held)).await;
    let windows = growth_kib(&program, || open_tiny_windows(answered)).await;
    println!("{HOSTILE} clients each: rapid resets {resets} KiB a connection, windows of one byte {windows} KiB");
    assert!(resets < GROWTH_LIMIT_KIB, "{resets} KiB for a client that resets its streams");
    assert!(windows < GROWTH_LIMIT_KIB, "{windows} KiB for a client with windows of one byte");
    assert!(program.terminate().await, "it ends well");
}

/// Sends the beginning of a head and then a byte each ten seconds; answers when the connection has ended.
async fn drip(number: usize, address: SocketAddr) -> Duration {
    let socket = TcpSocket::new_v4().unwrap();
    // Ports of one address are few.
    socket.bind(format!("127.0.1.{}:0", 1 + number % 100).parse().unwrap()).unwrap();
    let mut stream = within("a connection", socket.connect(address)).await.unwrap();
    let began = Instant::now();
    let mut rest = Vec::new();
    for byte in b"GET / HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a')) {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        let pause = tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut rest));
        if matches!(pause.await, Ok(Ok(0) | Err(_))) {
            break;
        }
    }
    began.elapsed()
}

/// The quietest median of 50 requests until `must_end`: whatever else the machine does only adds to it.
async fn quietest_median(edge: SocketAddr, host: &str, must_end: Instant) -> Duration {
    let mut quietest = Duration::MAX;
    while Instant::now() < must_end {
        let mut client = RawClient::connect(edge).await;
        let mut times = Vec::with_capacity(50);
        for _ in 0..50 {
            let began = Instant::now();
            assert_eq!(client.get("/", host).await.status, 200);
            times.push(began.elapsed());
        }
        times.sort_unstable();
        quietest = quietest.min(times[25]);
    }
    quietest
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_drip_leave_others_alone_and_are_gone_in_time() {
    let is_full = std::env::var("APPPROXY_TEST_FLOOD").is_ok_and(|size| size == "full");
    // Beside other tests each side of the comparison may meet another machine.
    let (count, slack) = if is_full { (10_000, Duration::from_micros(50)) } else { (1_000, Duration::from_millis(2)) };
    let (program, _data) = started().await;
    let origin = Origin::start("lab").await;
    let (host, _) = host_and_port(&program.manager.open(circuit("s1", "lab", "subdomain", &[origin.address()])).await);
    let edge = program.edge;
    let measured = Duration::from_secs(8);
    quietest_median(edge, &host, Instant::now() + Duration::from_secs(1)).await;
    let alone = quietest_median(edge, &host, Instant::now() + measured).await;
    let before_kib = program.forget_peak();
    let mut dripping: JoinSet<Duration> = (0..count).map(|number| drip(number, edge)).collect();
    assert_eq!(program.manager.call("GET", "/status", None).await.0, 200, "the API answers beside the flood");
    let beside = quietest_median(edge, &host, Instant::now() + measured).await;
    let still_open = dripping.len();
    let grown_kib = program.peak_kib().saturating_sub(before_kib);
    let mut longest = Duration::ZERO;
    let all_gone = async {
        while let Some(ended) = dripping.join_next().await {
            longest = longest.max(ended.unwrap());
        }
    };
    tokio::time::timeout(HEAD_TIME + Duration::from_secs(60), all_gone).await.expect("all are gone");
    println!(
        "{count} slow heads, a byte each 10 s: {still_open} open while measured, {grown_kib} KiB grown; median alone \
         {alone:?}, beside them {beside:?}; the longest lasted {longest:?} of {HEAD_TIME:?}"
    );
    assert_eq!(still_open, count);
    assert!(longest < HEAD_TIME + Duration::from_secs(10), "{longest:?}");
    assert!(beside <= alone.mul_f64(1.2) + slack, "{beside:?} beside a flood, {alone:?} alone");
    assert!(program.terminate().await, "it ends well");
}
