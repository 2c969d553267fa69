//! Each target in turn.
//!
//! The round robin that pingora brings starts at the first target whenever the targets change, and gives the share of one
//! that is left out to its neighbour.
//!
//! Invariant: between two changes, of targets or of their health, every target gets the same number of choices within one.

use super::mask::Mask;
use super::member::Members;
use super::selection::Policy;

/// Nothing but the turn is needed, and that lives outside.
pub(super) struct InTurn;

impl Policy for InTurn {
    fn new(_members: &Members) -> Self {
        Self
    }

    fn pick(&self, members: &Members, among: Mask, _is_first: bool) -> Option<usize> {
        among.at(members.turn())
    }
}
