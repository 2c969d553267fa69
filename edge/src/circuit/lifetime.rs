//! What all generations of one circuit id share: the requests that are open and whose turn it is.
//!
//! Invariant: once a lifetime has ended no request of it is open and none opens any more; cutting what is open at one target
//! touches no request at another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;

use crate::connection::Connection;

/// Why a request was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// The circuit has ended.
    Ended,
    /// As much is open as may be.
    Full,
}

/// The life of a circuit across its generations.
#[derive(Debug, Default)]
pub(crate) struct Lifetime {
    state: Mutex<State>,
    turn: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    has_ended: bool,
    /// By connection: one of HTTP/1 has one request at a time, and over HTTP/2 each stream counts as one.
    open: HashMap<u64, (Arc<Connection>, u64)>,
}

/// A request of a circuit while it is open, an upgraded connection included; dropping it says that it is over.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    lifetime: Arc<Lifetime>,
    connection: u64,
}

// === impl Lifetime ===

impl Lifetime {
    /// Notes that `connection` serves `request` for this circuit, of which `max` requests may be open; 0 is no cap.
    pub(crate) fn open(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        request: u64,
        max: usize,
    ) -> Result<OpenRequest, NotOpened> {
        let mut state = self.state.lock();
        if state.has_ended {
            return Err(NotOpened::Ended);
        }
        if max > 0 && state.open.len() >= max {
            return Err(NotOpened::Full);
        }
        state.open.insert(connection.number, (Arc::clone(connection), request));
        Ok(OpenRequest { lifetime: Arc::clone(self), connection: connection.number })
    }

    /// Ends the circuit: cuts every request that is open, and says how many there were.
    pub(crate) fn end(&self) -> usize {
        let mut state = self.state.lock();
        state.has_ended = true;
        // Under the lock a request cannot leave and make room for one of another circuit.
        for (connection, request) in state.open.values() {
            connection.cut_request(*request);
        }
        state.open.len()
    }

    /// Cuts every request that is open at this target, and says how many there were.
    pub(crate) fn cut_at(&self, target: u64) -> usize {
        let state = self.state.lock();
        let there = state.open.values().filter(|(connection, _)| connection.is_at(target));
        there.map(|(connection, request)| connection.cut_request(*request)).count()
    }

    /// Ends the circuit if nothing of it is open.
    pub(crate) fn end_if_idle(&self) -> bool {
        let mut state = self.state.lock();
        if state.open.is_empty() {
            state.has_ended = true;
        }
        state.has_ended
    }

    /// Whose turn it is among the targets; it goes on across generations.
    pub(crate) fn turn(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.turn)
    }
}

// === impl OpenRequest ===

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.lifetime.state.lock().open.remove(&self.connection);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::client::Client;
    use crate::connection::Entrance;

    fn connection() -> Arc<Connection> {
        let client = Client::new("10.0.0.1".parse().expect("valid"));
        Arc::new(Connection::new(Entrance::TRAFFIC, client))
    }

    fn must_end(connection: &Connection) -> bool {
        connection.poll_end(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_end_of_a_circuit_cuts_its_own_requests_only() {
        let (mine, other) = (Arc::new(Lifetime::default()), Arc::new(Lifetime::default()));
        let (one, two) = (connection(), connection());
        let _open = mine.open(&one, one.begin_request(), 0).expect("alive");
        let _elsewhere = other.open(&two, two.begin_request(), 0).expect("alive");
        assert!(!mine.end_if_idle());
        assert_eq!(mine.end(), 1);
        assert!(must_end(&one));
        assert!(!must_end(&two));
    }

    #[test]
    fn a_connection_that_went_on_to_another_circuit_is_not_cut() {
        let (mine, other) = (Arc::new(Lifetime::default()), Arc::new(Lifetime::default()));
        let one = connection();
        drop(mine.open(&one, one.begin_request(), 0).expect("alive"));
        one.end_request();
        let _open = other.open(&one, one.begin_request(), 0).expect("alive");
        assert_eq!(mine.end(), 0);
        assert!(!must_end(&one));
    }

    #[test]
    fn the_end_of_a_target_cuts_what_is_open_there_only() {
        let lifetime = Arc::new(Lifetime::default());
        let (one, two, three) = (connection(), connection(), connection());
        let _open = [&one, &two, &three].map(|each| lifetime.open(each, each.begin_request(), 0).expect("alive"));
        one.set_target(7);
        two.set_target(8);
        assert_eq!(lifetime.cut_at(7), 1);
        assert!(must_end(&one) && !must_end(&two) && !must_end(&three));
    }

    #[test]
    fn nothing_opens_after_the_end() {
        let lifetime = Arc::new(Lifetime::default());
        assert!(lifetime.end_if_idle());
        let one = connection();
        assert_eq!(lifetime.open(&one, one.begin_request(), 0).err(), Some(NotOpened::Ended));
    }

    #[test]
    fn a_circuit_that_is_full_takes_another_request_when_one_is_over() {
        let lifetime = Arc::new(Lifetime::default());
        let (one, two) = (connection(), connection());
        let open = lifetime.open(&one, one.begin_request(), 1).expect("room");
        assert_eq!(lifetime.open(&two, two.begin_request(), 1).err(), Some(NotOpened::Full));
        drop(open);
        assert!(lifetime.open(&two, two.begin_request(), 1).is_ok());
    }
}
