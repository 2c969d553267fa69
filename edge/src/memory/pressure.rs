//! From how much memory on what is done about it.
//!
//! Invariant: a state is left at a lower mark than it was entered, so that it does not change with every look.

/// What is done about memory; the later, the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Pressure {
    /// Nothing.
    None,
    /// Connections are not kept between requests.
    Tight,
    /// New connections are turned away.
    Shedding,
}

/// Parts of the ceiling, in percent: from where on a state holds, and below which it is over.
const TIGHT: (u64, u64) = (80, 75);
const SHEDDING: (u64, u64) = (90, 85);

// === impl Pressure ===

impl Pressure {
    /// The state after this one, with so much resident.
    pub(super) fn next(self, resident_bytes: u64, ceiling_bytes: u64) -> Self {
        let percent = u128::from(resident_bytes) * 100 / u128::from(ceiling_bytes.max(1));
        let holds =
            |state, (enter, leave): (u64, u64)| percent >= u128::from(if self >= state { leave } else { enter });
        if holds(Self::Shedding, SHEDDING) {
            Self::Shedding
        } else if holds(Self::Tight, TIGHT) {
            Self::Tight
        } else {
            Self::None
        }
    }

    /// The word in logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "enough",
            Self::Tight => "tight",
            Self::Shedding => "shedding",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_entered_at_one_mark_and_left_at_a_lower_one() {
        let mut state = Pressure::None;
        let states: Vec<&str> = [790, 800, 760, 899, 900, 860, 849, 890, 749, 1_200, 100]
            .map(|resident_bytes| {
                state = state.next(resident_bytes, 1_000);
                state.as_str()
            })
            .to_vec();
        let wanted = [
            "enough", "tight", "tight", "tight", "shedding", "shedding", "tight", "tight", "enough", "shedding",
            "enough",
        ];
        assert_eq!(states, wanted);
    }

    #[test]
    fn no_numbers_overflow() {
        assert_eq!(Pressure::None.next(u64::MAX, u64::MAX), Pressure::Shedding);
        assert_eq!(Pressure::None.next(1, 0), Pressure::Shedding);
    }
}
