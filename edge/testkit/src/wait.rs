//! Waiting for a condition with a deadline: the one place in all tests that sleeps.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take before its test fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not hold before the deadline.
pub async fn wait_until(what: &str, condition: impl AsyncFnMut() -> bool) {
    wait_until_for(what, DEADLINE, condition).await;
}

/// Waits until `condition` holds, which may take longer than usual.
///
/// # Panics
/// If it does not hold before `limit`.
pub async fn wait_until_for(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "{what} did not happen within {limit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until `condition` holds, and holds up its thread.
///
/// # Panics
/// If it does not hold before `limit`.
pub fn block_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for `future`.
///
/// # Panics
/// If it is not there before the deadline.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    within_for(what, DEADLINE, future).await
}

/// Waits for `future`, which may take longer than usual.
///
/// # Panics
/// If it is not there before `limit`.
pub async fn within_for<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("{what} did not happen within {limit:?}"))
}
