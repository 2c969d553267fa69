//! Many clients that do nothing but stay, and what they cost others.

use std::time::{Duration, Instant};

use testkit::frames::{FrameClient, flag, frame, get, kind};
use testkit::origin::Origin;
use testkit::raw::RawClient;
use testkit::wait::{wait_until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::connect_from;
use crate::harness::{TestEdge, at, by_host, by_port};

/// Set to `full` for the flood of the budget: 10,000 connections, a byte each ten seconds, the head's default time limit.
const SIZE: &str = "APPPROXY_TEST_FLOOD";

/// What a flood is.
struct Flood {
    connections: usize,
    every: Duration,
    deadline: Duration,
    /// What may be added to the time of a request besides a fifth.
    slack: Duration,
}

impl Flood {
    fn of_environment() -> Self {
        if std::env::var(SIZE).is_ok_and(|size| size == "full") {
            // Both ends are in this process.
            let most = (testkit::memory::descriptor_limit().saturating_sub(1_000) / 2) as usize;
            let connections = 10_000.min(most);
            Self {
                connections,
                every: Duration::from_secs(10),
                deadline: Duration::from_secs(30),
                slack: Duration::from_micros(50),
            }
        } else {
            // Other tests run beside, and not the same ones for the whole time.
            Self {
                connections: 500,
                every: Duration::from_millis(500),
                deadline: Duration::from_secs(6),
                slack: Duration::from_millis(1),
            }
        }
    }
}

/// The median time of requests one after the other, for each of many rounds until `must_end`.
async fn medians(edge: &TestEdge, rounds: usize, must_end: Instant) -> Vec<Duration> {
    const REQUESTS: usize = 50;
    let mut medians = Vec::new();
    while medians.len() < rounds && Instant::now() < must_end {
        let mut client = RawClient::connect(edge.address).await;
        let mut times = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let began = Instant::now();
            assert_eq!(client.get("/", "lab.apps.test").await.status, 200);
            times.push(began.elapsed());
        }
        times.sort_unstable();
        medians.push(times[REQUESTS / 2]);
    }
    medians
}

/// The quietest round: whatever else the machine does only adds to it, on either side.
fn quietest(medians: &[Duration]) -> Duration {
    medians.iter().copied().min().expect("a round")
}

/// Sends a byte of a head now and then, and waits for the end; how long that took and what came before it.
async fn drip(mut socket: TcpStream, every: Duration) -> (Duration, Vec<u8>) {
    let began = Instant::now();
    let head = b"GET / HTTP/1.1\r\nHost: lab.apps.test\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a'));
    let mut answer = Vec::new();
    for byte in head {
        if socket.write_all(&[*byte]).await.is_err() {
            break;
        }
        let read = tokio::time::timeout(every, socket.read_buf(&mut answer)).await;
        if matches!(read, Ok(Ok(0) | Err(_))) {
            break;
        }
    }
    (began.elapsed(), answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_come_byte_by_byte_do_not_slow_others_down_and_end_in_time() {
    const ROUNDS: usize = 40;
    let Flood { connections, every, deadline, slack } = Flood::of_environment();
    let edge = TestEdge::start_with(|config| config.client.head = deadline).await;
    let origin = Origin::start("lab").await;
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let far = Instant::now() + Duration::from_secs(120);
    medians(&edge, 2, far).await;
    let mut alone = medians(&edge, ROUNDS, far).await;

    let began = Instant::now();
    let mut dripping = tokio::task::JoinSet::new();
    for number in 0..connections {
        // Ports of one address are few.
        let from = format!("127.0.0.{}:0", 2 + number % 100);
        dripping.spawn(drip(connect_from(&from, edge.address).await, every));
    }
    let opened = began.elapsed();
    let beside = medians(&edge, usize::MAX, began + deadline.mul_f64(0.9)).await;
    let still_open = dripping.len();
    let mut last = Duration::ZERO;
    let mut answered = 0;
    while let Some(ended) = within("the end of the flood", dripping.join_next()).await {
        let (time, answer) = ended.expect("no panic");
        last = last.max(time);
        answered += usize::from(answer.starts_with(b"HTTP/1.1 408 "));
    }
    // The same again without the flood, so that a machine that became busy meanwhile shows on both sides.
    alone.extend(medians(&edge, ROUNDS, far).await);
    let (alone, beside) = (quietest(&alone), quietest(&beside));
    println!(
        "{connections} slow heads (limit of descriptors {}), a byte each {every:?}: opened in {opened:?}, {still_open} open \
         at the end of the measurement; median alone {alone:?}, beside them {beside:?}; the last ended after {last:?} of \
         {deadline:?}, {answered} with 408",
        testkit::memory::descriptor_limit()
    );
    assert_eq!(answered, connections);
    assert!(last < deadline + every + Duration::from_secs(5), "{last:?}");
    let allowed = alone.mul_f64(1.2) + slack;
    assert!(beside <= allowed, "{beside:?} beside a flood, {alone:?} alone");
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"head_timeout\"}").await, connections as f64);
    edge.wait_for_no_connection().await;
}

/// An origin with an answer that no buffer holds.
async fn large() -> Origin {
    let origin = Origin::start("lab").await;
    let body = vec![b'a'; 32 * 1024 * 1024];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    origin.answer("/large", &[head.into_bytes(), body].concat());
    origin
}

#[tokio::test]
async fn readers_that_stop_have_so_many_places_and_the_next_one_is_ended_at_once() {
    let edge = TestEdge::start_with(|config| {
        config.client.max_stalled = 2;
        config.client.write = Duration::from_secs(600);
    })
    .await;
    let (origin, port) = (large().await, testkit::ports::free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    let mut circuit = by_port("http2", port, vec![origin.target()]);
    circuit.protocol = entities::circuit::Protocol::H2;
    edge.serve(&circuit).await;

    let mut held = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(edge.address).await.expect("connects");
        socket.write_all(b"GET /large HTTP/1.1\r\nHost: lab.apps.test\r\n\r\n").await.expect("sends");
        held.push(socket);
    }
    // Two wait for the write time limit, the third is ended.
    wait_until("an end", async || edge.metric("appproxy_edge_connections_open").await == 3.0).await;
    assert!(edge.metric("appproxy_edge_refusals_total{reason=\"write_timeout\"}").await >= 1.0);

    let mut client = FrameClient::connect(at(port), &[]).await;
    client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &get("/large"))).await;
    assert_eq!(client.wait_for_goaway().await, Some(11));
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"http2_abuse\"}").await, 1.0);

    drop(held);
    wait_until("the places to be free", async || edge.metric("appproxy_edge_connections_open").await == 1.0).await;
    let mut client = FrameClient::connect(at(port), &[]).await;
    client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &get("/large"))).await;
    let ended = tokio::time::timeout(Duration::from_secs(8), client.wait_for_goaway()).await;
    assert!(ended.is_err(), "it has a place, and waits");
}
