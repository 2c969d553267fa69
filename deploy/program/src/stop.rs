//! SIGTERM and SIGINT.
//!
//! Invariant: a process that cannot hear signals runs on rather than stops at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Becomes true on SIGTERM or SIGINT.
pub fn on_signal() -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        signalled().await;
        tracing::info!("stopping");
        stop.send_replace(true);
        // Somebody may still begin to wait.
        stop.closed().await;
    });
    stopped
}

/// Ends on SIGTERM and SIGINT.
pub async fn signalled() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    let interrupt = tokio::signal::ctrl_c();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt => {}
    }
}
