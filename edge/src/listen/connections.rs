//! The connections of one port, or of the whole edge.
//!
//! Invariant: a connection is in the set for as long as its task works on it, and one that comes after a notice has
//! the notice.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::connection::{Connection, Notice};
use crate::metrics::{Gauge, metrics};

metrics! {
    /// What is counted of connections.
    pub(crate) struct ConnectionMetrics {
        open: Gauge = ("connections_open", "Client connections"),
    }
}

/// A set of connections that can be told something together.
pub(super) struct Connections {
    state: Mutex<State>,
    emptied: Notify,
    /// Counts here if this is the set of the whole edge.
    metrics: Option<Arc<ConnectionMetrics>>,
}

struct State {
    notice: Notice,
    open: HashMap<u64, Arc<Connection>>,
}

/// A connection's place in a set; dropping it takes the connection out.
pub(super) struct Member {
    set: Arc<Connections>,
    number: u64,
}

// === impl Connections ===

impl Connections {
    /// The set of the whole edge.
    pub(super) fn new(metrics: Arc<ConnectionMetrics>) -> Self {
        Self { metrics: Some(metrics), ..Self::of_one_port() }
    }

    /// The set of one port.
    pub(super) fn of_one_port() -> Self {
        let state = State { notice: Notice::Stay, open: HashMap::new() };
        Self { state: Mutex::new(state), emptied: Notify::new(), metrics: None }
    }

    /// Takes a connection in.
    pub(super) fn enter(self: &Arc<Self>, connection: &Arc<Connection>) -> Member {
        let mut state = self.state.lock();
        if state.notice != Notice::Stay {
            connection.notify(state.notice);
        }
        state.open.insert(connection.number, Arc::clone(connection));
        if let Some(metrics) = &self.metrics {
            metrics.open.inc();
        }
        Member { set: Arc::clone(self), number: connection.number }
    }

    /// Tells all of them, and those that are yet to come.
    pub(super) fn notify(&self, notice: Notice) {
        let mut state = self.state.lock();
        state.notice = state.notice.max(notice);
        for connection in state.open.values() {
            connection.notify(notice);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.state.lock().open.len()
    }

    /// Until there is none.
    pub(super) async fn wait_until_none(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

// === impl Member ===

impl Drop for Member {
    fn drop(&mut self) {
        let is_empty = {
            let mut state = self.set.state.lock();
            state.open.remove(&self.number);
            state.open.is_empty()
        };
        if let Some(metrics) = &self.set.metrics {
            metrics.open.dec();
        }
        if is_empty {
            self.set.emptied.notify_waiters();
        }
    }
}
