//! Which target gets the next request.
//!
//! Invariant: a target that this request has failed to reach is not chosen for it again, a target of weight 0 gets nothing
//! new, and what is counted of a target goes on when others come or go.

mod affinity;
mod attempts;
mod budget;
mod faults;
mod in_turn;
mod least;
mod mask;
mod member;
pub mod selection;
mod smooth;
mod target;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use entities::balance::{Retries, Strategy};
use entities::circuit::Circuit;
use entities::health_check::HealthCheck;
use entities::ids::CircuitId;
use entities::target::Target;

use crate::egress::Egress;
use crate::health::{Address, Health};
use crate::limits::TimeLimits;
pub(crate) use affinity::Stickiness;
pub(crate) use attempts::{Attempts, BrokenOff, NoConnection, Place};
use budget::RetryBudget;
pub(crate) use faults::{TargetFault, TargetMetrics};
use mask::Mask;
pub(crate) use member::Hold;
use member::{Member, Members};
use selection::Selection;
use smooth::Credits;
pub(crate) use target::{PeerRules, TargetPeer};

/// What all circuits of an edge share when they choose and connect.
pub(crate) struct TargetContext {
    /// Which targets work.
    pub(crate) health: Health,
    /// Where the edge may connect to.
    pub(crate) egress: Arc<Egress>,
    /// Whether targets that look down are tried when all of a circuit do: whoever judges them may be wrong.
    pub(crate) fails_open: bool,
    /// What is counted of them.
    pub(crate) metrics: Arc<TargetMetrics>,
}

/// The targets of one generation of a circuit.
pub(crate) struct Balancer {
    circuit: CircuitId,
    rules: PeerRules,
    retries: Retries,
    targets: Targets,
    /// Set if clients stay with their targets.
    stickiness: Option<Box<Stickiness>>,
    /// Set if requests may be sent twice.
    budget: Option<Arc<RetryBudget>>,
    context: Arc<TargetContext>,
}

enum Targets {
    /// No target: nothing can be served until there is one.
    None,
    /// A single target needs no choice.
    One(TargetPeer),
    /// Several targets.
    Many(Box<Many>),
}

struct Many {
    targets: Box<[TargetPeer]>,
    strategy: Strategy,
    selection: Selection,
}

/// A target that was chosen.
struct Chosen<'a> {
    target: &'a TargetPeer,
    /// Counts the request there; a single target has nothing to be compared with.
    hold: Option<Hold>,
}

// === impl Balancer ===

impl Balancer {
    /// Spreads over the targets of `circuit`, beginning where the generation `before` is; a circuit without one begins at
    /// `turn`.
    pub(crate) fn new(
        circuit: &Circuit,
        limits: TimeLimits,
        before: Option<&Self>,
        turn: Arc<AtomicUsize>,
        context: Arc<TargetContext>,
    ) -> Self {
        let rules = PeerRules { backend: circuit.backend, limits };
        let check = circuit.traffic.health_check.as_ref();
        let is_watched = check.is_some() || circuit.targets.len() > 1;
        end_watches(before, &circuit.targets, check);
        let mut targets = Vec::with_capacity(circuit.targets.len());
        for (index, target) in circuit.targets.iter().enumerate() {
            let mut peer = TargetPeer::new(circuit.id, index, target.clone(), rules);
            let known = before.and_then(|before| before.find(target));
            if let Some(known) = known {
                peer.stats = Arc::clone(&known.stats);
            }
            let watch = known.and_then(|known| known.watch.get()).filter(|watch| watch.has_check(check)).cloned();
            if let Some(watch) =
                watch.or_else(|| is_watched.then(|| context.health.watch(circuit.id, target, check, circuit.backend)))
            {
                peer.watch = watch.into();
            }
            targets.push(peer);
        }
        let retries = circuit.traffic.retries;
        let budget = before.and_then(|before| before.budget.clone());
        Self {
            circuit: circuit.id,
            rules,
            retries,
            stickiness: circuit
                .traffic
                .affinity
                .cookie
                .then(|| Box::new(Stickiness::new(circuit.id, circuit.targets.iter()))),
            budget: retries.idempotent.then(|| budget.unwrap_or_else(|| Arc::new(RetryBudget::new()))),
            targets: Targets::new(targets, circuit.load_balancing.strategy, before, turn, context.fails_open),
            context,
        }
    }

    /// How many targets there are.
    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there is a target that may get something new.
    pub(crate) fn has_weight(&self) -> bool {
        self.as_slice().iter().any(|target| target.target().weight > 0)
    }

    /// The cookies by which clients stay with their targets.
    pub(crate) fn stickiness(&self) -> Option<&Stickiness> {
        self.stickiness.as_deref()
    }

    /// The targets that open requests may stay at but that get nothing new from now on, after the generation `before`.
    pub(crate) fn let_go(&self, before: &Self) -> Vec<u64> {
        let is_kept = |old: &&TargetPeer| self.find(old.target()).is_some_and(|new| new.target().weight > 0);
        let had_weight = before.as_slice().iter().filter(|old| old.target().weight > 0);
        had_weight.filter(|old| !is_kept(old)).map(TargetPeer::identity).collect()
    }

    /// Whether a target of this identity may get something new.
    pub(crate) fn serves(&self, identity: u64) -> bool {
        self.as_slice().iter().any(|target| target.identity() == identity && target.target().weight > 0)
    }

    fn as_slice(&self) -> &[TargetPeer] {
        match &self.targets {
            Targets::None => &[],
            Targets::One(only) => std::slice::from_ref(only),
            Targets::Many(many) => &many.targets,
        }
    }

    fn get(&self, index: usize) -> Option<&TargetPeer> {
        self.as_slice().get(index)
    }

    fn find(&self, target: &Target) -> Option<&TargetPeer> {
        let is_it = |known: &&TargetPeer| known.target().port == target.port && known.target().host == target.host;
        self.as_slice().iter().find(is_it)
    }

    /// A target that has not been tried: the preferred one if it works, else the strategy's choice.
    fn choose(&self, tried: Mask, preferred: Option<usize>) -> Option<Chosen<'_>> {
        match &self.targets {
            Targets::None => None,
            Targets::One(only) => self.may_take(only, tried).then_some(Chosen { target: only, hold: None }),
            Targets::Many(many) => {
                let preferred = preferred.filter(|index| !tried.has(*index));
                let kept = preferred.and_then(|index| many.selection.take(index));
                let choice = kept.or_else(|| many.selection.choose_beside(tried))?;
                Some(Chosen { target: many.targets.get(choice.index)?, hold: Some(choice.hold) })
            }
        }
    }

    /// Whether there is a target to choose that has not been tried.
    fn has_untried(&self, tried: Mask) -> bool {
        match &self.targets {
            Targets::None => false,
            Targets::One(only) => self.may_take(only, tried),
            Targets::Many(many) => many.selection.has_beside(tried),
        }
    }

    fn may_take(&self, only: &TargetPeer, tried: Mask) -> bool {
        !tried.has(only.index) && only.target().weight > 0 && (self.context.fails_open || only.is_usable())
    }

    /// An attempt has failed in this way, after it had begun well.
    pub(crate) fn note_fault(&self, fault: TargetFault) {
        self.context.metrics.faults.inc(fault);
    }

    /// Something failed at a target.
    fn failed(&self, target: &TargetPeer) {
        let watch = || self.context.health.watch(self.circuit, target.target(), None, self.rules.backend);
        target.watch.get_or_init(watch).failed();
    }
}

/// Ends the watches that the next generation, with these targets and this check, does not go on with.
fn end_watches(before: Option<&Balancer>, targets: &[Target], check: Option<&HealthCheck>) {
    let Some(before) = before else { return };
    for old in before.as_slice() {
        let Some(watch) = old.watch.get() else { continue };
        let address = Address::of(old.target());
        let stays = targets.iter().any(|target| target.port == address.port && target.host == address.host);
        if !stays || !watch.has_check(check) {
            watch.end();
        }
    }
}

// === impl Targets ===

impl Targets {
    fn new(
        mut targets: Vec<TargetPeer>,
        strategy: Strategy,
        before: Option<&Balancer>,
        turn: Arc<AtomicUsize>,
        fails_open: bool,
    ) -> Self {
        if targets.len() < 2 {
            return targets.pop().map_or(Self::None, Self::One);
        }
        let member = |target: &TargetPeer| Member {
            weight: target.target().weight,
            stats: Arc::clone(&target.stats),
            watch: target.watch.get().cloned(),
        };
        let list = targets.iter().map(member).collect();
        let credits = before.map(|before| credits_of(&targets, strategy, before)).unwrap_or_default();
        let selection = Selection::new(strategy, Members { list, turn, fails_open, credits });
        Self::Many(Box::new(Many { targets: targets.into(), strategy, selection }))
    }
}

/// The credits that targets bring along from the generation before.
fn credits_of(targets: &[TargetPeer], strategy: Strategy, before: &Balancer) -> Credits {
    let Targets::Many(many) = &before.targets else { return Credits::default() };
    if strategy != Strategy::Weighted || many.strategy != strategy {
        return Credits::default();
    }
    let Credits { values, sum } = many.selection.credits();
    let value = |target: &TargetPeer| before.find(target.target()).and_then(|old| values.get(old.index)).copied();
    Credits { values: targets.iter().map(|target| value(target).unwrap_or(0)).collect(), sum }
}

#[cfg(test)]
mod tests;
