//! What has been applied and is not on disk yet: the queue between `sync` and the writer.
//!
//! Invariant: taking note never waits for the disk. Of several changes of one circuit the last one counts, so the queue
//! holds at most one value for each circuit that is served and one end for each that the file still names; it needs no
//! limit of its own, and nothing has to be left out when the disk is slow or away.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use entities::circuit::Versioned;
use entities::clock::SharedClock;
use entities::ids::{CircuitId, CircuitKey, Generation};
use entities::registry::layout::CircuitState;
use entities::token::PublicKey;
use parking_lot::{Condvar, Mutex};

use super::format::SavedPosition;
use super::log::Change;
use crate::position::Followed;

/// How often the position is written while nothing happens.
const POSITION_INTERVAL: Duration = Duration::from_secs(10);

/// Takes note of what is applied.
pub(crate) struct Journal {
    state: Mutex<State>,
    wake: Condvar,
    clock: SharedClock,
}

#[derive(Default)]
struct State {
    /// What the file says or will say: a circuit of the same life and generation need not be written again.
    known: HashMap<CircuitKey, (CircuitId, Generation)>,
    pending: HashMap<CircuitKey, Pending>,
    /// The public keys, if they have changed.
    keys: Option<Vec<PublicKey>>,
    followed: Option<Followed>,
    is_following: bool,
    confirmed_at_ms: i64,
    /// Whether the position is worth a record of its own.
    has_moved: bool,
    must_stop: bool,
    written_at_ms: Option<i64>,
}

struct Pending {
    /// `None` if the circuit has ended.
    value: Option<Vec<u8>>,
    /// Whether the file may name the circuit.
    may_be_on_disk: bool,
}

/// What the writer has to do next.
pub(super) struct Round {
    pub(super) changes: Vec<Change>,
    pub(super) keys: Option<Vec<PublicKey>>,
    pub(super) position: Option<SavedPosition>,
    /// There will be no other.
    pub(super) is_last: bool,
}

// === impl Journal ===

impl Journal {
    /// A journal for a file that says `circuits`.
    pub(super) fn new(circuits: &[Versioned], clock: SharedClock) -> Self {
        let known = circuits.iter().map(|versioned| (versioned.circuit.key.clone(), mark(versioned))).collect();
        Self { state: Mutex::new(State { known, ..State::default() }), wake: Condvar::new(), clock }
    }

    /// The circuit is served like this.
    pub(crate) fn put(&self, versioned: &Versioned) {
        let key = &versioned.circuit.key;
        if self.state.lock().known.get(key) == Some(&mark(versioned)) {
            return;
        }
        match CircuitState::Open(Box::new(versioned.clone())).encode() {
            Ok(value) => {
                let mut state = self.state.lock();
                let was_known = state.known.insert(key.clone(), mark(versioned)).is_some();
                self.note(&mut state, key, Some(value), was_known);
            }
            Err(error) => {
                tracing::warn!(%key, %error, "a circuit does not fit into the snapshot");
                self.gone(key);
            }
        }
    }

    /// The circuit is not served any more.
    pub(crate) fn gone(&self, key: &CircuitKey) {
        let mut state = self.state.lock();
        if state.known.remove(key).is_none() {
            return;
        }
        if state.pending.get(key).is_some_and(|pending| !pending.may_be_on_disk) {
            state.pending.remove(key);
        } else {
            self.note(&mut state, key, None, true);
        }
    }

    /// These public keys are accepted.
    pub(crate) fn put_keys(&self, keys: Vec<PublicKey>) {
        self.state.lock().keys = Some(keys);
        self.wake.notify_one();
    }

    /// The edge has applied this much.
    pub(crate) fn advance(&self, followed: Followed) {
        self.state.lock().followed = Some(followed);
    }

    /// Whether a trusted registry is followed from now on.
    pub(crate) fn set_following(&self, is_following: bool) {
        let mut state = self.state.lock();
        state.is_following = is_following;
        state.confirmed_at_ms = self.clock.now_ms();
        state.has_moved = true;
        self.wake.notify_one();
    }

    /// How long ago the snapshot was written, in seconds; `None` before the first time.
    pub(crate) fn age_s(&self) -> Option<i64> {
        let written_at_ms = self.state.lock().written_at_ms?;
        Some((self.clock.now_ms() - written_at_ms).max(0) / 1_000)
    }

    /// Lets the writer write what there is and end.
    pub(super) fn stop(&self) {
        self.state.lock().must_stop = true;
        self.wake.notify_one();
    }

    /// Waits for something to write: a change for `interval` after `last`, nothing but the time for longer.
    pub(super) fn next_round(&self, last: Instant, interval: Duration) -> Round {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            let has_news = state.has_moved || state.keys.is_some() || !state.pending.is_empty();
            let due = match (state.must_stop, has_news, state.is_following) {
                (true, _, _) => Some(now),
                (false, true, _) => Some(last + interval),
                (false, false, true) => Some(last + interval.max(POSITION_INTERVAL)),
                (false, false, false) => None,
            };
            match due {
                Some(due) if due <= now => break,
                Some(due) => {
                    self.wake.wait_until(&mut state, due);
                }
                None => self.wake.wait(&mut state),
            }
        }
        if state.is_following {
            state.confirmed_at_ms = self.clock.now_ms();
        }
        state.has_moved = false;
        let confirmed_at_ms = state.confirmed_at_ms;
        let position = state.followed.map(|Followed { installation_id, epoch, revision }| SavedPosition {
            installation_id,
            epoch,
            revision,
            confirmed_at_ms,
        });
        let pending = std::mem::take(&mut state.pending);
        let changes = pending.into_iter().map(|(key, pending)| (key, pending.value)).collect();
        Round { changes, keys: state.keys.take(), position, is_last: state.must_stop }
    }

    /// What a round had to write is on disk.
    pub(super) fn confirm(&self) {
        self.state.lock().written_at_ms = Some(self.clock.now_ms());
    }

    /// What a round had to write is not on disk: it is to be written again, but for what has changed since.
    pub(super) fn put_back(&self, changes: Vec<Change>, keys: Option<Vec<PublicKey>>) {
        let mut state = self.state.lock();
        state.has_moved = true;
        state.keys = state.keys.take().or(keys);
        for (key, value) in changes {
            let pending = state.pending.entry(key).or_insert(Pending { value, may_be_on_disk: true });
            pending.may_be_on_disk = true;
        }
    }

    fn note(&self, state: &mut State, key: &CircuitKey, value: Option<Vec<u8>>, was_known: bool) {
        let was_empty = state.pending.is_empty();
        let may_be_on_disk = state.pending.get(key).map_or(was_known, |pending| pending.may_be_on_disk);
        state.pending.insert(key.clone(), Pending { value, may_be_on_disk });
        if was_empty {
            self.wake.notify_one();
        }
    }
}

fn mark(versioned: &Versioned) -> (CircuitId, Generation) {
    (versioned.circuit.id, versioned.generation)
}

#[cfg(test)]
mod tests;
