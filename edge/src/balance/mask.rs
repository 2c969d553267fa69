//! A set of a circuit's targets, a bit for each.
//!
//! Invariant: every index of a target fits, because a circuit has at most as many targets as there are bits.

use std::iter::successors;

/// Some targets of one circuit, by their places in its list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mask(u128);

const _: () = assert!(entities::limits::MAX_TARGETS <= u128::BITS as usize, "a mask has a bit for each target");

// === impl Mask ===

impl Mask {
    /// Adds a target.
    pub(crate) fn add(&mut self, index: usize) {
        self.0 |= bit(index);
    }

    /// Whether a target is in it.
    pub(crate) fn has(self, index: usize) -> bool {
        self.0 & bit(index) != 0
    }

    /// How many targets are in it.
    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The targets in it, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let next = |bits: &u128| Some(bits & bits.wrapping_sub(1)).filter(|rest| *rest != 0);
        let some = Some(self.0).filter(|bits| *bits != 0);
        successors(some, next).map(|bits| bits.trailing_zeros() as usize)
    }

    /// The target at place `number` of those in it, counted round.
    pub(super) fn at(self, number: usize) -> Option<usize> {
        self.iter().nth(number.checked_rem(self.len())?)
    }

    /// As the key of a selection.
    pub(super) fn to_key(self) -> [u8; 16] {
        self.0.to_ne_bytes()
    }

    /// What [`Mask::to_key`] has made; any other key is an empty set.
    pub(super) fn of_key(key: &[u8]) -> Self {
        Self(key.try_into().map_or(0, u128::from_ne_bytes))
    }
}

fn bit(index: usize) -> u128 {
    u32::try_from(index).ok().and_then(|index| 1_u128.checked_shl(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_what_was_added_and_counts_round() {
        let mut mask = Mask::default();
        assert_eq!((mask.len(), mask.at(0), mask.iter().next()), (0, None, None));
        [127, 3, 64].into_iter().for_each(|index| mask.add(index));
        assert_eq!(mask.iter().collect::<Vec<_>>(), [3, 64, 127]);
        assert_eq!([0, 1, 2, 3].map(|number| mask.at(number)), [Some(3), Some(64), Some(127), Some(3)]);
        assert!(mask.has(64) && !mask.has(65) && !mask.has(128));
        assert_eq!(Mask::of_key(&mask.to_key()), mask);
        assert!(Mask::of_key(b"").is_empty());
    }
}
