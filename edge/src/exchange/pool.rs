//! Idle connections to targets.
//!
//! Each thread has a shard of its own, so its lock is nearly always free. The last connection that came back is taken first: its
//! memory is warm, and those that are too many grow old and go.
//!
//! Invariant: a connection is kept only in a state that is certain: no request is under way on it, and nothing has come that was
//! not asked for. At most [`MAX_IDLE_PER_SHARD`] are kept, none longer than [`IDLE_TIME`]; two circuits never share one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long an idle connection waits for the next request.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// How often one looks for those that are older.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Idle connections of one thread: as many as it has requests under way at a time. Each costs a descriptor.
const MAX_IDLE_PER_SHARD: usize = 2_048;

/// Shards, at least as many as there are threads on the machines that we know.
const SHARDS: usize = 16;

/// Numbers threads.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// What a connection leads to: the target of one circuit, and one of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) target: u64,
    pub(super) address: SocketAddr,
}

/// All idle connections of an edge.
pub(crate) struct Pool {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    idle: HashMap<PoolKey, Vec<Idle>>,
    count: usize,
}

struct Idle {
    socket: TcpStream,
    since: Instant,
}

// === impl Pool ===

impl Pool {
    /// A connection that is open still, if there is one.
    pub(super) fn take(&self, key: PoolKey) -> Option<TcpStream> {
        let shard = self.shards.get(SHARD.with(|shard| *shard))?;
        loop {
            let socket = shard.lock().take(key)?;
            // No system call: the reactor knows whether anything has come. Whatever that is, nobody asked for it.
            match socket.try_read(&mut [0]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(socket),
                _ => {}
            }
        }
    }

    /// A connection that carries nothing any more.
    pub(super) fn give_back(&self, key: PoolKey, socket: TcpStream) {
        if let Some(shard) = self.shards.get(SHARD.with(|shard| *shard)) {
            shard.lock().give_back(key, Idle { socket, since: Instant::now() });
        }
    }

    /// Closes those that are too old, for ever.
    pub(crate) async fn sweep(&self) {
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            for shard in &self.shards {
                let old = shard.lock().take_old(now);
                // Closed outside of the lock.
                drop(old);
            }
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

// === impl Shard ===

impl Shard {
    fn take(&mut self, key: PoolKey) -> Option<TcpStream> {
        let socket = self.idle.get_mut(&key)?.pop()?.socket;
        self.count -= 1;
        Some(socket)
    }

    fn give_back(&mut self, key: PoolKey, idle: Idle) {
        if self.count < MAX_IDLE_PER_SHARD {
            self.count += 1;
            self.idle.entry(key).or_default().push(idle);
        }
    }

    fn take_old(&mut self, now: Instant) -> Vec<Idle> {
        let mut old = Vec::new();
        self.idle.retain(|_, idle| {
            // They came back in this order.
            let count = idle.partition_point(|idle| now.saturating_duration_since(idle.since) >= IDLE_TIME);
            old.extend(idle.drain(..count));
            !idle.is_empty()
        });
        self.count -= old.len();
        old
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream, PoolKey) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let ours = TcpStream::connect(address).await.expect("connects");
        let (theirs, _) = listener.accept().await.expect("accepts");
        (ours, theirs, PoolKey { target: 1, address })
    }

    #[tokio::test]
    async fn the_last_one_comes_first_and_only_for_its_own_circuit() {
        let (pool, (one, _far, key)) = (Pool::default(), pair().await);
        let (two, _farther, _) = pair().await;
        let ports = [&one, &two].map(|socket| socket.local_addr().expect("bound").port());
        pool.give_back(key, one);
        pool.give_back(key, two);
        assert!(pool.take(PoolKey { target: 2, ..key }).is_none());
        let taken = [(); 2].map(|()| pool.take(key).expect("idle").local_addr().expect("bound").port());
        assert_eq!(taken, [ports[1], ports[0]]);
        assert!(pool.take(key).is_none());
    }

    #[tokio::test]
    async fn what_the_target_has_closed_or_spoken_on_is_not_used_again() {
        let pool = Pool::default();
        let (closed, far, key) = pair().await;
        drop(far);
        closed.readable().await.expect("the end");
        pool.give_back(key, closed);
        let (spoken, mut far, _) = pair().await;
        far.write_all(b"HTTP/1.1 408 Too late\r\n\r\n").await.expect("sends");
        spoken.readable().await.expect("bytes");
        pool.give_back(key, spoken);
        assert!(pool.take(key).is_none());
    }

    #[tokio::test]
    async fn what_is_idle_for_too_long_goes_and_what_is_too_many_does_not_come() {
        let (socket, _far, key) = pair().await;
        let mut shard = Shard::default();
        let since = Instant::now();
        shard.give_back(key, Idle { socket, since });
        assert!(shard.take_old(since + IDLE_TIME - Duration::from_millis(1)).is_empty());
        assert_eq!(shard.take_old(since + IDLE_TIME).len(), 1);
        assert_eq!((shard.count, shard.idle.len()), (0, 0));
        shard.count = MAX_IDLE_PER_SHARD;
        let (socket, _far, _) = pair().await;
        shard.give_back(key, Idle { socket, since });
        assert!(shard.take(key).is_none());
    }
}
