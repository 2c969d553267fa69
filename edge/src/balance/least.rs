//! The target with the fewest open requests, streams and tunnels for its weight.
//!
//! Invariant: no target that could have been chosen would have had less to do for its weight; among equals each has its turn.

use super::mask::Mask;
use super::member::{Member, Members};
use super::selection::Policy;

/// The counts live with the targets.
pub(super) struct Least;

impl Policy for Least {
    fn new(_members: &Members) -> Self {
        Self
    }

    fn pick(&self, members: &Members, among: Mask, _is_first: bool) -> Option<usize> {
        let member = |index: usize| members.list.get(index).map(|member| (index, member));
        let mut equals = Mask::default();
        let mut least: Option<(u64, u64)> = None;
        for (index, member) in among.iter().filter_map(member) {
            let load = load(member);
            // By cross multiplication: 32 bits times 16.
            let order = least.map_or(std::cmp::Ordering::Less, |least| (load.0 * least.1).cmp(&(least.0 * load.1)));
            if order.is_lt() {
                equals = Mask::default();
                least = Some(load);
            }
            if order.is_le() {
                equals.add(index);
            }
        }
        equals.at(members.turn())
    }
}

/// What the target would have to do with one request more, and its weight.
fn load(member: &Member) -> (u64, u64) {
    (u64::from(member.stats.open()) + 1, u64::from(member.weight))
}
