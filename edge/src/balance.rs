//! Which target gets the next request.
//!
//! Invariant: a target that this request has failed to reach is not chosen for it again, and the turn goes on where
//! it was when the targets of a circuit change.

mod attempts;
mod in_turn;
mod target;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use entities::ids::CircuitId;
use entities::target::Target;
use futures_util::FutureExt as _;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_load_balancing::discovery::Static;
use pingora_load_balancing::{Backend, Backends, Extensions, LoadBalancer};

pub(crate) use attempts::{Attempts, MAX_ATTEMPTS};
use in_turn::InTurn;
pub(crate) use target::{PeerRules, TargetPeer};

/// The targets of a circuit and whose turn it is.
pub(crate) enum Balancer {
    /// No target: nothing can be served until there is one.
    None,
    /// A single target needs no choice.
    One(TargetPeer),
    /// Several targets, each in turn.
    Many(Box<Many>),
}

/// Several targets. A balancer of pingora costs 5 KiB, which is why a single target does without.
pub(crate) struct Many {
    targets: Box<[TargetPeer]>,
    turns: LoadBalancer<InTurn>,
}

/// The targets that one request has failed to reach, a bit for each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tried(u128);

const _: () = assert!(entities::limits::MAX_TARGETS <= u128::BITS as usize, "Tried has a bit for each target");

// === impl Balancer ===

impl Balancer {
    /// Spreads over `targets`, beginning where `turn` is.
    pub(crate) fn new(circuit: CircuitId, targets: Vec<Target>, rules: PeerRules, turn: Arc<AtomicUsize>) -> Self {
        let peer = |(index, target)| TargetPeer::new(circuit, index, target, rules);
        let mut targets: Vec<TargetPeer> = targets.into_iter().enumerate().map(peer).collect();
        match (targets.pop(), targets.is_empty()) {
            (None, _) => Self::None,
            (Some(only), true) => Self::One(only),
            (Some(last), false) => {
                targets.push(last);
                Self::Many(Box::new(Many::new(targets.into(), turn)))
            }
        }
    }

    /// How many targets there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.targets.len(),
        }
    }

    /// The target whose turn it is among those that have not been tried.
    pub(crate) fn choose(&self, tried: Tried) -> Option<&TargetPeer> {
        match self {
            Self::None => None,
            Self::One(only) => (!tried.has(only.index)).then_some(only),
            Self::Many(many) => many.choose(tried),
        }
    }

    /// Whether there is a target that has not been tried.
    pub(crate) fn has_untried(&self, tried: Tried) -> bool {
        (0..self.len()).any(|index| !tried.has(index))
    }

    /// The target with this index.
    pub(crate) fn get(&self, index: usize) -> Option<&TargetPeer> {
        match self {
            Self::None => None,
            Self::One(only) => (only.index == index).then_some(only),
            Self::Many(many) => many.targets.get(index),
        }
    }
}

// === impl Many ===

impl Many {
    fn new(targets: Box<[TargetPeer]>, turn: Arc<AtomicUsize>) -> Self {
        let backends: BTreeSet<Backend> = targets.iter().map(|target| stand_in(target.index)).collect();
        let backends = Backends::new(Static::new(backends));
        let turns = LoadBalancer::from_backends_with_config(backends, Some(turn));
        // A static list is there at once: the future has nothing to wait for and nothing that fails.
        let _ = turns.update().now_or_never();
        Self { targets, turns }
    }

    fn choose(&self, tried: Tried) -> Option<&TargetPeer> {
        let is_untried = |backend: &Backend, is_ready| is_ready && index_of(backend).is_some_and(|at| !tried.has(at));
        let chosen = self.turns.select_with(b"", self.targets.len(), is_untried)?;
        self.targets.get(index_of(&chosen)?)
    }
}

/// What pingora knows a target by. It takes a backend's address for its identity and nothing else of ours needs it,
/// so the address carries the target's index as its port: names need no look-up before their turn comes, and two
/// names with one address stay two targets.
fn stand_in(index: usize) -> Backend {
    let port = u16::try_from(index).unwrap_or(u16::MAX);
    Backend {
        addr: PingoraAddr::Inet(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        weight: 1,
        ext: Extensions::new(),
    }
}

fn index_of(backend: &Backend) -> Option<usize> {
    backend.addr.as_inet().map(|address| usize::from(address.port()))
}

// === impl Tried ===

impl Tried {
    /// Notes that a target has been tried.
    pub(crate) fn add(&mut self, index: usize) {
        self.0 |= bit(index);
    }

    fn has(self, index: usize) -> bool {
        self.0 & bit(index) != 0
    }
}

fn bit(index: usize) -> u128 {
    u32::try_from(index).ok().and_then(|index| 1_u128.checked_shl(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(count: u16) -> Vec<Target> {
        let target = |index: u16| Target {
            host: if index.is_multiple_of(2) { "127.0.0.1".parse() } else { "node.test".parse() }.expect("valid"),
            port: (8000 + index).try_into().expect("valid"),
            weight: 1,
        };
        (0..count).map(target).collect()
    }

    fn balancer(count: u16, turn: &Arc<AtomicUsize>) -> Balancer {
        Balancer::new(CircuitId::random(), targets(count), target::tests::RULES, Arc::clone(turn))
    }

    fn choose(balancer: &Balancer, tried: Tried) -> Option<usize> {
        balancer.choose(tried).map(|target| target.index)
    }

    #[test]
    fn every_target_gets_the_same_share() {
        let turn = Arc::default();
        let balancer = balancer(4, &turn);
        let mut counts = [0; 4];
        for _ in 0..400 {
            counts[choose(&balancer, Tried::default()).expect("there are targets")] += 1;
        }
        assert_eq!(counts, [100; 4]);
    }

    #[test]
    fn the_turn_goes_on_when_the_targets_change() {
        let turn = Arc::default();
        let mut counts = [0; 3];
        for _ in 0..30 {
            let changed = balancer(3, &turn);
            counts[choose(&changed, Tried::default()).expect("there are targets")] += 1;
        }
        assert_eq!(counts, [10; 3]);
    }

    #[test]
    fn a_tried_target_is_not_chosen_again_and_then_there_is_none() {
        for count in [1, 2, 3, 128] {
            let turn = Arc::default();
            let balancer = balancer(count, &turn);
            let mut tried = Tried::default();
            let mut seen = BTreeSet::new();
            while let Some(index) = choose(&balancer, tried) {
                assert!(seen.insert(index), "{index} came twice");
                tried.add(index);
            }
            assert_eq!(seen.len(), usize::from(count));
        }
    }

    #[test]
    fn without_targets_there_is_no_choice() {
        let turn = Arc::default();
        assert!(balancer(0, &turn).choose(Tried::default()).is_none());
    }
}
