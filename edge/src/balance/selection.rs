//! How a target is chosen, as selections of pingora-load-balancing.
//!
//! Pingora's own `LoadBalancer` around a selection costs 5 KiB for each circuit and looks the health of every candidate up in
//! a map; ours reads it from the targets themselves.
//!
//! Invariant: a selection yields every target that may be chosen exactly once, the policy's choice first.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use entities::balance::Strategy;
use parking_lot::Mutex;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use pingora_load_balancing::{Backend, Extensions};

use super::in_turn::InTurn;
use super::least::Least;
use super::mask::Mask;
use super::member::{Hold, Member, Members, TargetStats};
use super::smooth::{Credits, Smooth};

/// Which of several targets comes next.
pub(super) trait Policy: Send + Sync + 'static {
    /// Begins with these members.
    fn new(members: &Members) -> Self;

    /// One of `among`; unless it is the first choice for its request, the choice is for one that was counted already.
    fn pick(&self, members: &Members, among: Mask, is_first: bool) -> Option<usize>;

    /// What it keeps for each member, for the next generation; nothing, unless it says so.
    fn credits(&self) -> Credits {
        Credits::default()
    }
}

/// A policy over members.
pub(super) struct Selector<P> {
    policy: P,
    members: Arc<Members>,
    backends: Box<[Backend]>,
}

/// The choices for one request.
pub(super) struct Picks<P> {
    selector: Arc<Selector<P>>,
    excluded: Mask,
    is_first: bool,
}

/// Chooses by one of the strategies.
pub struct Selection {
    members: Arc<Members>,
    kind: Kind,
}

enum Kind {
    InTurn(Arc<Selector<InTurn>>),
    Smooth(Arc<Selector<Smooth>>),
    /// The lock makes choosing and counting one step.
    Least(Arc<Selector<Least>>, Mutex<()>),
}

/// A choice; dropping it says that the request is over.
pub struct Choice {
    /// The target's place in the list.
    pub index: usize,
    pub(super) hold: Hold,
}

// === impl Selector ===

impl<P: Policy> BackendSelection for Selector<P> {
    type Iter = Picks<P>;
    type Config = Arc<Members>;

    fn build_with_config(backends: &BTreeSet<Backend>, members: &Self::Config) -> Self {
        Self { policy: P::new(members), members: Arc::clone(members), backends: backends.iter().cloned().collect() }
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        let member = |backend: &Backend| Member {
            weight: u16::try_from(backend.weight).unwrap_or(u16::MAX),
            stats: Arc::default(),
            watch: None,
        };
        Self::build_with_config(backends, &Arc::new(Members::of(backends.iter().map(member).collect())))
    }

    /// `key` names the targets that the request has tried.
    fn iter(self: &Arc<Self>, key: &[u8]) -> Picks<P> {
        let excluded = Mask::of_key(key);
        Picks { selector: Arc::clone(self), is_first: excluded.is_empty(), excluded }
    }
}

impl<P: Policy> BackendIter for Picks<P> {
    fn next(&mut self) -> Option<&Backend> {
        let Selector { policy, members, backends } = &*self.selector;
        let among = members.eligible(self.excluded);
        let index = policy.pick(members, among, self.is_first)?;
        self.is_first = false;
        self.excluded.add(index);
        backends.get(index)
    }
}

// === impl Members ===

impl Members {
    /// These, as a circuit begins.
    pub(super) fn of(list: Box<[Member]>) -> Self {
        Self { list, turn: Arc::default(), fails_open: true, credits: Credits::default() }
    }
}

// === impl Selection ===

impl Selection {
    pub(super) fn new(strategy: Strategy, members: Members) -> Self {
        let members = Arc::new(members);
        let backends: BTreeSet<Backend> = members.list.iter().enumerate().map(stand_in).collect();
        let kind = match strategy {
            Strategy::RoundRobin => Kind::InTurn(Arc::new(Selector::build_with_config(&backends, &members))),
            Strategy::Weighted => Kind::Smooth(Arc::new(Selector::build_with_config(&backends, &members))),
            Strategy::LeastConnections => {
                Kind::Least(Arc::new(Selector::build_with_config(&backends, &members)), Mutex::default())
            }
        };
        Self { members, kind }
    }

    /// Chooses among targets of these weights that always work: for measuring.
    pub fn of_weights(strategy: Strategy, weights: &[u16]) -> Self {
        let member = |weight: &u16| Member { weight: *weight, stats: Arc::default(), watch: None };
        Self::new(strategy, Members::of(weights.iter().map(member).collect()))
    }

    /// Chooses for a request that has tried nothing yet.
    pub fn choose(&self) -> Option<Choice> {
        self.choose_beside(Mask::default())
    }

    /// Chooses for a request that has tried some targets.
    pub(super) fn choose_beside(&self, tried: Mask) -> Option<Choice> {
        let key = tried.to_key();
        match &self.kind {
            Kind::InTurn(selector) => self.hold(selector.iter(&key)),
            Kind::Smooth(selector) => self.hold(selector.iter(&key)),
            Kind::Least(selector, counting) => {
                let _counting = counting.lock();
                self.hold(selector.iter(&key))
            }
        }
    }

    /// Takes a target that was chosen by other means, if it may be chosen.
    pub(super) fn take(&self, index: usize) -> Option<Choice> {
        let member = self.members.list.get(index).filter(|member| member.weight > 0)?;
        let is_usable = member.watch.as_ref().is_none_or(|watch| watch.is_usable());
        is_usable.then(|| Choice { index, hold: Hold::take(&member.stats) })
    }

    /// Whether there is anything to choose that is not in `tried`.
    pub(super) fn has_beside(&self, tried: Mask) -> bool {
        !self.members.eligible(tried).is_empty()
    }

    /// What is kept for each target when others come or go.
    pub(super) fn credits(&self) -> Credits {
        match &self.kind {
            Kind::InTurn(selector) => selector.policy.credits(),
            Kind::Smooth(selector) => selector.policy.credits(),
            Kind::Least(selector, _) => selector.policy.credits(),
        }
    }

    fn hold(&self, mut picks: impl BackendIter) -> Option<Choice> {
        let index = picks.next().and_then(index_of)?;
        let stats: &Arc<TargetStats> = &self.members.list.get(index)?.stats;
        Some(Choice { index, hold: Hold::take(stats) })
    }
}

/// What pingora knows a target by. It takes a backend's address for its identity and nothing else of ours needs it,
/// so the address carries the target's index as its port: names need no look-up before their turn comes, and two
/// names with one address stay two targets.
fn stand_in((index, member): (usize, &Member)) -> Backend {
    let port = u16::try_from(index).unwrap_or(u16::MAX);
    Backend {
        addr: PingoraAddr::Inet(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        weight: member.weight.into(),
        ext: Extensions::new(),
    }
}

fn index_of(backend: &Backend) -> Option<usize> {
    backend.addr.as_inet().map(|address| usize::from(address.port()))
}
