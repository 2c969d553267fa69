//! What is known about the targets of a circuit, from what its workers say.
//!
//! Invariant: pure. A target works if any live worker says so, and does not if none says so and at least one says the
//! opposite: a worker that cannot reach it may be the one that is cut off.

use std::collections::HashMap;

use entities::circuit::CircuitStatus;
use entities::target::Target;

/// What live workers say about the targets of one circuit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetHealth {
    /// By host and port.
    known: HashMap<(String, u16), bool>,
}

// === impl TargetHealth ===

impl TargetHealth {
    /// A worker says this about a target.
    pub fn note(&mut self, host: String, port: u16, is_healthy: bool) {
        *self.known.entry((host, port)).or_insert(false) |= is_healthy;
    }

    /// Whether a target works, if anybody knows.
    pub fn of(&self, target: &Target) -> Option<bool> {
        self.known.get(&(target.host.as_str().to_owned(), target.port.number())).copied()
    }

    /// The status of a circuit with these targets that a worker serves.
    pub fn served_status(&self, targets: &[Target]) -> CircuitStatus {
        let may_serve = |target: &Target| target.weight > 0 && self.of(target) != Some(false);
        if targets.iter().any(may_serve) { CircuitStatus::Healthy } else { CircuitStatus::Unhealthy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u16, weight: u16) -> Target {
        Target { host: "10.0.0.1".parse().expect("valid"), port: port.try_into().expect("valid"), weight }
    }

    #[test]
    fn who_says_that_it_works_is_believed() {
        for words in [[true, false], [false, true]] {
            let mut health = TargetHealth::default();
            words.into_iter().for_each(|word| health.note("10.0.0.1".to_owned(), 1, word));
            assert_eq!(health.of(&target(1, 1)), Some(true));
        }
    }

    #[test]
    fn a_circuit_is_healthy_while_a_target_that_gets_requests_may_work() {
        let mut health = TargetHealth::default();
        health.note("10.0.0.1".to_owned(), 1, false);
        let status = |targets: &[Target]| health.served_status(targets);
        assert_eq!(status(&[target(1, 1), target(2, 1)]), CircuitStatus::Healthy);
        assert_eq!(status(&[target(1, 1)]), CircuitStatus::Unhealthy);
        assert_eq!(status(&[target(1, 1), target(2, 0)]), CircuitStatus::Unhealthy);
        assert_eq!(status(&[]), CircuitStatus::Unhealthy);
    }
}
