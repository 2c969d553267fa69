//! What a relay carries, holds and passes on.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::metrics::Metrics;

impl Peer for tokio::io::DuplexStream {}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (ours.expect("connects"), accepted.expect("accepts").0)
}

fn metrics() -> Arc<RelayMetrics> {
    RelayMetrics::register(&Metrics::default()).expect("valid names")
}

/// How a relay ended, and what it had carried.
#[derive(Debug)]
struct Outcome {
    to_target: u64,
    to_client: u64,
    end: End,
}

async fn carried(mut relay: Relay<TcpStream, TcpStream>) -> Outcome {
    let end = (&mut relay).await;
    let [to_target, to_client] = relay.bytes();
    Outcome { to_target, to_client, end }
}

/// A client, a target, and the relay between them.
async fn relayed(early: Early, rules: RelayRules) -> (TcpStream, TcpStream, JoinHandle<Outcome>) {
    let (client, near) = pair().await;
    let (far, target) = pair().await;
    (client, target, tokio::spawn(carried(Relay::new(near, far, early, rules, metrics()))))
}

#[tokio::test]
async fn early_bytes_come_first_and_each_end_is_passed_on() {
    let early = Early { to_target: b"first ".to_vec(), to_client: b"hello ".to_vec() };
    let (mut client, mut target, relay) = relayed(early, RelayRules::default()).await;
    client.write_all(b"second").await.expect("sends");
    client.shutdown().await.expect("half-closes");
    let mut got = String::new();
    target.read_to_string(&mut got).await.expect("its end");
    assert_eq!(got, "first second");
    target.write_all(b"again").await.expect("sends");
    drop(target);
    got.clear();
    client.read_to_string(&mut got).await.expect("its end");
    assert_eq!(got, "hello again");
    let Outcome { to_target, to_client, end } = relay.await.expect("no panic");
    assert_eq!((to_target, to_client), (12, 11));
    assert!(matches!(end, End::Finished), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn much_passes_whole_in_both_directions_at_once() {
    const BYTES: usize = 64 * 1024 * 1024;
    let (client, target, relay) = relayed(Early::default(), RelayRules::default()).await;
    let send = |mut writing: tokio::net::tcp::OwnedWriteHalf, seed: u8| async move {
        let mut sent = 0;
        while sent < BYTES {
            let block: Vec<u8> =
                (0..65_521_usize.min(BYTES - sent)).map(|at| ((sent + at) % 251) as u8 ^ seed).collect();
            writing.write_all(&block).await.expect("sends");
            sent += block.len();
        }
        writing.shutdown().await.expect("half-closes");
    };
    let check = |mut reading: tokio::net::tcp::OwnedReadHalf, seed: u8| async move {
        let (mut seen, mut block) = (0, vec![0; 100_000]);
        loop {
            let count = reading.read(&mut block).await.expect("bytes");
            if count == 0 {
                return seen;
            }
            let is_right =
                block[..count].iter().enumerate().all(|(at, byte)| *byte == ((seen + at) % 251) as u8 ^ seed);
            assert!(is_right, "after {seen} bytes");
            seen += count;
        }
    };
    let ((client_reads, client_writes), (target_reads, target_writes)) = (client.into_split(), target.into_split());
    let (.., up, down) = tokio::join!(
        tokio::spawn(send(client_writes, 1)),
        tokio::spawn(send(target_writes, 2)),
        tokio::spawn(check(target_reads, 1)),
        tokio::spawn(check(client_reads, 2)),
    );
    assert_eq!((up.expect("no panic"), down.expect("no panic")), (BYTES, BYTES));
    assert!(matches!(relay.await.expect("no panic").end, End::Finished));
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer() {
    let (mut client, target, relay) = relayed(Early::default(), RelayRules::default()).await;
    let block = vec![7; 1024 * 1024];
    let mut sent = 0;
    let full = async {
        loop {
            match tokio::time::timeout(std::time::Duration::from_secs(1), client.write(&block)).await {
                Ok(count) => sent += count.expect("sends"),
                Err(_) => return,
            }
        }
    };
    full.await;
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes are somewhere");
    drop(target);
    drop(client);
    relay.await.expect("no panic");
}

#[tokio::test]
async fn a_reset_is_the_fault_of_whoever_sent_it_and_reaches_the_other_side() {
    let (mut client, target, relay) = relayed(Early::default(), RelayRules::default()).await;
    target.set_zero_linger().expect("an option");
    drop(target);
    let outcome = relay.await.expect("no panic");
    assert!(matches!(outcome.end, End::Failed { side: Side::Target, .. }), "{outcome:?}");
    let error = client.read_u8().await.expect_err("no orderly end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_relay_where_it_must_and_only_there() {
    let second = Duration::from_secs(1);
    let start = |rules| {
        let ((client, near), (far, target)) = (duplex(64), duplex(64));
        (client, target, tokio::spawn(Relay::new(near, far, Early::default(), rules, metrics())))
    };
    let (mut client, mut target, relay) = start(RelayRules { idle: Some(10 * second), half_open: second });
    let began = Instant::now();
    for _ in 0..3 {
        tokio::time::sleep(9 * second).await;
        client.write_all(b"x").await.expect("sends");
        target.read_u8().await.expect("arrives");
    }
    assert!(matches!(relay.await.expect("no panic"), End::Idle));
    assert!(began.elapsed() >= 37 * second && began.elapsed() < 38 * second, "{:?}", began.elapsed());

    let (mut client, _target, relay) = start(RelayRules { idle: None, half_open: 5 * second });
    tokio::time::sleep(100 * second).await;
    client.shutdown().await.expect("half-closes");
    let began = Instant::now();
    assert!(matches!(relay.await.expect("no panic"), End::HalfOpen));
    assert!(began.elapsed() <= 6 * second, "{:?}", began.elapsed());
}

#[test]
fn an_idle_relay_is_small() {
    let size = size_of::<Relay<TcpStream, TcpStream>>();
    assert!(size <= 384, "{size} bytes");
}
