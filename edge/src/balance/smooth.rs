//! By weight, and evenly in time: the smooth weighted round robin of nginx.
//!
//! Each choice gives every target credit by its weight and takes the sum of all weights from the one that had most.
//!
//! Invariant: with `W` the sum of the weights, the credits of those that can be chosen add up to 0. From a fresh start none
//! falls to `-W` and none exceeds `W` times the harmonic number of their count: a target is never a whole choice ahead of its
//! exact share, and never further behind than that number (Adler et al., "A proportionate fair scheduling rule with good
//! worst-case performance", 2003). A change adds one choice to both at most.

use parking_lot::Mutex;

use super::mask::Mask;
use super::member::Members;
use super::selection::Policy;

/// Credits are counted in parts of a weight, so that little is lost when they are converted.
const PARTS: i64 = 1 << 16;

/// Who has how much credit.
pub(super) struct Smooth {
    state: Mutex<State>,
}

/// The credits, and what they are worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Credits {
    /// By target; those that cannot be chosen have none.
    pub(super) values: Vec<i64>,
    /// The sum of the weights of those that could be chosen.
    pub(super) sum: i64,
}

struct State {
    credits: Credits,
    /// Among whom the last choice was.
    among: Mask,
}

impl Policy for Smooth {
    fn new(members: &Members) -> Self {
        let mut credits = members.credits.clone();
        credits.values.resize(members.list.len(), 0);
        Self { state: Mutex::new(State { credits, among: Mask::default() }) }
    }

    fn pick(&self, members: &Members, among: Mask, is_first: bool) -> Option<usize> {
        let weight = |index: usize| members.list.get(index).map_or(0, |member| PARTS * i64::from(member.weight));
        let mut state = self.state.lock();
        let State { credits, among: before } = &mut *state;
        if !is_first {
            // A second choice is for a request that has been counted.
            let credit = |index: &usize| credits.values.get(*index).map_or(0, |credit| credit + weight(*index));
            return among.iter().max_by_key(credit);
        }
        if *before != among {
            *before = among;
            credits.convert(among, among.iter().map(weight).sum());
        }
        let (mut best, mut most) = (None, i64::MIN);
        for index in among.iter() {
            let Some(credit) = credits.values.get_mut(index) else { continue };
            *credit += weight(index);
            if *credit > most {
                (best, most) = (Some(index), *credit);
            }
        }
        if let Some(credit) = best.and_then(|index| credits.values.get_mut(index)) {
            *credit -= credits.sum;
        }
        best
    }

    fn credits(&self) -> Credits {
        self.state.lock().credits.clone()
    }
}

// === impl Credits ===

impl Credits {
    /// Others can be chosen from now on, and the sum of their weights is `sum`: a credit is worth as many choices as before,
    /// those that cannot be chosen lose theirs, the rest adds up to 0 again, and nobody is more than one choice behind or
    /// ahead.
    fn convert(&mut self, among: Mask, sum: i64) {
        let before = std::mem::replace(&mut self.sum, sum);
        for (index, credit) in self.values.iter_mut().enumerate() {
            *credit = if among.has(index) { scaled(*credit, sum, before) } else { 0 };
        }
        let (mut rest, mut count) = (self.values.iter().sum::<i64>(), among.len() as i64);
        for index in among.iter() {
            if let Some(credit) = self.values.get_mut(index) {
                let part = rest / count;
                *credit -= part;
                rest -= part;
                count -= 1;
            }
        }
        let most = self.values.iter().map(|credit| credit.abs()).max().unwrap_or(0);
        if most > sum {
            self.values.iter_mut().for_each(|credit| *credit = scaled(*credit, sum, most));
        }
    }
}

/// `value` times `numerator` over `denominator`, rounded towards 0.
fn scaled(value: i64, numerator: i64, denominator: i64) -> i64 {
    if denominator == 0 {
        return 0;
    }
    let scaled = i128::from(value) * i128::from(numerator) / i128::from(denominator);
    i64::try_from(scaled).unwrap_or(0)
}
