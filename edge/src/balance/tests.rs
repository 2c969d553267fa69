//! Choices, between changes of targets, of weights and of health.
//!
//! Invariant: what is expected of a strategy is computed here from the weights alone, never by its own code.

use std::collections::HashMap;
use std::time::Duration;

use entities::balance::{Affinity, LoadBalancing, Strategy};
use entities::circuit::{Backend, Protocol, Traffic};
use entities::frontend::Frontend;
use entities::health_check::CheckType;
use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest};
use proptest::strategy::Strategy as _;

use super::*;
use crate::health::HealthMetrics;
use crate::metrics::Metrics;

const LIMITS: TimeLimits =
    TimeLimits { connect: Duration::from_secs(5), first_byte: None, idle: None, drain: Duration::ZERO };

/// A circuit whose targets come and go.
struct Changing {
    circuit: Circuit,
    context: Arc<TargetContext>,
    turn: Arc<AtomicUsize>,
    balancer: Option<Balancer>,
}

impl Changing {
    fn new(strategy: Strategy) -> Self {
        Self::new_with(strategy, true)
    }

    fn new_with(strategy: Strategy, fails_open: bool) -> Self {
        let circuit = Circuit {
            id: CircuitId::random(),
            key: "s1:web".parse().expect("valid"),
            authority: "main".parse().expect("valid"),
            frontend: Frontend::Port { port: 30_000.try_into().expect("valid") },
            protocol: Protocol::Http,
            backend: Backend::Http,
            targets: Vec::new(),
            load_balancing: LoadBalancing { strategy },
            access: entities::access::Access::for_everybody(),
            access_generation: entities::ids::Generation(1),
            traffic: Traffic::default(),
        };
        let egress = Arc::new(Egress::default());
        let all = Metrics::default();
        let health = Health::new(Arc::clone(&egress), HealthMetrics::register(&all).expect("valid"));
        let metrics = TargetMetrics::register(&all).expect("valid");
        let context = Arc::new(TargetContext { health, egress, fails_open, metrics });
        Self { circuit, context, turn: Arc::default(), balancer: None }
    }

    /// From now on these are the targets, by port, and their weights.
    fn set(&mut self, targets: &[(u16, u16)]) -> &Balancer {
        let target = |(port, weight): &(u16, u16)| Target {
            host: if port.is_multiple_of(2) { "10.0.0.1".parse() } else { "node.test".parse() }.expect("valid"),
            port: (*port).try_into().expect("valid"),
            weight: *weight,
        };
        self.circuit.targets = targets.iter().map(target).collect();
        let before = self.balancer.take();
        let turn = Arc::clone(&self.turn);
        let context = Arc::clone(&self.context);
        self.balancer.insert(Balancer::new(&self.circuit, LIMITS, before.as_ref(), turn, context))
    }

    fn balancer(&self) -> &Balancer {
        self.balancer.as_ref().expect("targets were set")
    }

    /// The port of the next choice; what was chosen stays open as long as the hold is kept.
    fn choose(&self) -> Option<(u16, Option<Hold>)> {
        let chosen = self.balancer().choose(Mask::default(), None)?;
        Some((chosen.target.target().port.number(), chosen.hold))
    }

    /// The ports of the next choices, each over at once.
    fn chosen(&self, count: usize) -> Vec<u16> {
        (0..count).map(|_| self.choose().expect("there is a target").0).collect()
    }

    fn fail(&self, port: u16) {
        let is_it = |target: &&TargetPeer| target.target().port.number() == port;
        let target = self.balancer().as_slice().iter().find(is_it).expect("there is such a target");
        (0..3).for_each(|_| self.balancer().failed(target));
    }

    fn recover(&self, port: u16) {
        let is_it = |target: &&TargetPeer| target.target().port.number() == port;
        self.balancer().as_slice().iter().find(is_it).expect("there is such a target").succeeded();
    }
}

fn counts(ports: &[u16]) -> HashMap<u16, usize> {
    let mut counts = HashMap::new();
    ports.iter().for_each(|port| *counts.entry(*port).or_default() += 1);
    counts
}

/// The harmonic number.
fn harmonic(count: usize) -> f64 {
    (1..=count).map(|number| 1.0 / number as f64).sum()
}

#[test]
fn weights_are_honoured_evenly_in_time() {
    let mut circuit = Changing::new(Strategy::Weighted);
    circuit.set(&[(1, 5), (2, 1), (3, 1)]);
    assert_eq!(circuit.chosen(14), [1, 1, 2, 1, 3, 1, 1, 1, 1, 2, 1, 3, 1, 1]);
}

#[test]
fn without_a_target_that_may_be_chosen_there_is_no_choice() {
    for strategy in [Strategy::RoundRobin, Strategy::Weighted, Strategy::LeastConnections] {
        let mut circuit = Changing::new(strategy);
        for targets in [&[][..], &[(1, 0)], &[(1, 0), (2, 0)]] {
            circuit.set(targets);
            assert!(!circuit.balancer().has_weight());
            assert!(circuit.choose().is_none(), "{strategy:?} {targets:?}");
        }
    }
}

#[test]
fn a_target_of_weight_0_gets_nothing_new() {
    for strategy in [Strategy::RoundRobin, Strategy::Weighted, Strategy::LeastConnections] {
        let mut circuit = Changing::new(strategy);
        circuit.set(&[(1, 1), (2, 0), (3, 1)]);
        assert!(!circuit.chosen(50).contains(&2), "{strategy:?}");
    }
}

#[test]
fn a_tried_target_is_not_chosen_again_and_then_there_is_none() {
    for strategy in [Strategy::RoundRobin, Strategy::Weighted, Strategy::LeastConnections] {
        for count in [1, 2, 3, 128] {
            let mut circuit = Changing::new(strategy);
            circuit.set(&(1..=count).map(|port| (port, 1)).collect::<Vec<_>>());
            let mut tried = Mask::default();
            for _ in 0..count {
                assert!(circuit.balancer().has_untried(tried));
                let index = circuit.balancer().choose(tried, None).expect("there is one left").target.index;
                assert!(!tried.has(index), "{strategy:?}: {index} came twice");
                tried.add(index);
            }
            assert!(circuit.balancer().choose(tried, None).is_none());
            assert!(!circuit.balancer().has_untried(tried));
        }
    }
}

#[test]
fn a_target_that_is_out_is_left_out_unless_all_are() {
    for strategy in [Strategy::RoundRobin, Strategy::Weighted, Strategy::LeastConnections] {
        let mut circuit = Changing::new(strategy);
        circuit.set(&[(1, 1), (2, 1)]);
        circuit.fail(1);
        assert_eq!(circuit.chosen(10), [2; 10], "{strategy:?}");
        circuit.fail(2);
        assert_eq!(counts(&circuit.chosen(10)), HashMap::from([(1, 5), (2, 5)]), "{strategy:?}");
        circuit.recover(1);
        assert_eq!(circuit.chosen(10), [1; 10], "{strategy:?}");
    }
}

#[test]
fn who_says_so_refuses_rather_than_tries_what_looks_down() {
    for targets in [&[(1, 1)][..], &[(1, 1), (2, 1)]] {
        let mut circuit = Changing::new_with(Strategy::RoundRobin, false);
        circuit.set(targets);
        targets.iter().for_each(|(port, _)| circuit.fail(*port));
        assert!(circuit.choose().is_none());
        circuit.recover(1);
        assert_eq!(circuit.chosen(3), [1; 3]);
    }
}

#[test]
fn what_is_known_of_an_address_is_known_to_all_circuits() {
    let mut one = Changing::new(Strategy::RoundRobin);
    let mut other = Changing::new(Strategy::RoundRobin);
    other.context = Arc::clone(&one.context);
    one.set(&[(1, 1), (2, 1)]);
    other.set(&[(1, 1), (3, 1)]);
    one.fail(1);
    assert_eq!(other.chosen(4), [3; 4]);
}

#[test]
fn a_single_target_is_watched_from_its_first_failure_on() {
    let mut circuit = Changing::new(Strategy::RoundRobin);
    circuit.set(&[(1, 1)]);
    assert!(circuit.balancer().as_slice()[0].watch.get().is_none());
    circuit.fail(1);
    assert_eq!(circuit.chosen(2), [1, 1], "there is nothing better");
    circuit.set(&[(1, 1), (2, 1)]);
    assert_eq!(circuit.chosen(2), [2, 2], "and what was learnt stays");
}

#[test]
fn a_preferred_target_is_kept_while_it_works() {
    let mut circuit = Changing::new(Strategy::RoundRobin);
    circuit.circuit.traffic.affinity = Affinity { cookie: true };
    circuit.set(&[(1, 1), (2, 1), (3, 1)]);
    let choose = |circuit: &Changing, tried| {
        circuit.balancer().choose(tried, Some(1)).expect("a target").target.target().port.number()
    };
    assert_eq!([(); 4].map(|()| choose(&circuit, Mask::default())), [2; 4]);
    let mut tried = Mask::default();
    tried.add(1);
    assert_ne!(choose(&circuit, tried), 2, "it was tried");
    circuit.fail(2);
    assert_ne!(choose(&circuit, Mask::default()), 2, "it is out");
}

#[test]
fn targets_that_go_are_named_and_those_that_stay_or_were_idle_before_are_not() {
    let mut circuit = Changing::new(Strategy::RoundRobin);
    circuit.set(&[(1, 1), (2, 1), (3, 1), (4, 0)]);
    let identity = |balancer: &Balancer, index: usize| balancer.as_slice()[index].identity();
    let (two, three) = (identity(circuit.balancer(), 1), identity(circuit.balancer(), 2));
    let before = circuit.balancer.take().expect("set");
    circuit.set(&[(1, 9), (3, 0)]);
    assert_eq!(circuit.balancer().let_go(&before), [two, three]);
    assert!(circuit.balancer().serves(identity(&before, 0)) && !circuit.balancer().serves(three));
}

#[test]
fn a_check_that_is_taken_away_is_told_as_nothing_known() {
    let check = HealthCheck {
        kind: CheckType::Tcp,
        path: None,
        expected_status: Vec::new(),
        interval_s: 5,
        timeout_s: 2,
        retries: 3,
        grace_s: 0,
    };
    let mut circuit = Changing::new(Strategy::RoundRobin);
    circuit.circuit.traffic.health_check = Some(check);
    circuit.set(&[(1, 1)]);
    let reports = |circuit: &Changing| circuit.context.health.reports().take(10);
    assert!(reports(&circuit).is_empty(), "nothing is known yet");
    circuit.fail(1);
    assert_eq!(reports(&circuit).iter().map(|report| report.healthy).collect::<Vec<_>>(), [Some(false)]);
    circuit.circuit.traffic.health_check = None;
    circuit.set(&[(1, 1)]);
    assert_eq!(reports(&circuit).iter().map(|report| report.healthy).collect::<Vec<_>>(), [None]);
    circuit.recover(1);
}

#[test]
fn connections_that_come_and_go_are_counted_across_changes() {
    let mut circuit = Changing::new(Strategy::LeastConnections);
    circuit.set(&[(1, 1), (2, 1)]);
    let held: Vec<_> = (0..10).filter_map(|_| circuit.choose()).collect();
    circuit.set(&[(2, 1), (1, 1), (3, 1)]);
    assert_eq!(circuit.chosen(3), [3; 3], "it has nothing to do yet");
    let more: Vec<_> = (0..5).filter_map(|_| circuit.choose()).collect();
    assert_eq!(counts(&more.iter().map(|(port, _)| *port).collect::<Vec<_>>()), HashMap::from([(3, 5)]));
    drop(held);
    assert!(!circuit.chosen(4).contains(&3));
}

/// What happens to a circuit between choices.
#[derive(Debug, Clone)]
enum Step {
    Targets(Vec<(u16, u16)>),
    Out(u16),
    Back(u16),
}

fn targets() -> impl proptest::strategy::Strategy<Value = Vec<(u16, u16)>> {
    proptest::collection::btree_map(1..12_u16, prop_oneof![Just(1_u16), 0..20_u16, Just(1_000)], 2..8)
        .prop_map(|targets| targets.into_iter().collect())
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<(Step, usize)>> {
    let step = prop_oneof![
        targets().prop_map(Step::Targets),
        (1..12_u16).prop_map(Step::Out),
        (1..12_u16).prop_map(Step::Back),
    ];
    proptest::collection::vec((step, 0..200_usize), 1..12)
}

/// Takes a step, and says which targets can be chosen after it, and their weights.
fn take(circuit: &mut Changing, step: &Step) -> Vec<(u16, u16)> {
    let known =
        |circuit: &Changing, port: u16| circuit.circuit.targets.iter().any(|target| target.port.number() == port);
    match step {
        Step::Targets(targets) => _ = circuit.set(targets),
        Step::Out(port) if known(circuit, *port) => circuit.fail(*port),
        Step::Back(port) if known(circuit, *port) => circuit.recover(*port),
        Step::Out(_) | Step::Back(_) => {}
    }
    let all = circuit.balancer().as_slice().iter().filter(|target| target.target().weight > 0);
    let (up, down): (Vec<_>, Vec<_>) = all.partition(|target| target.is_usable());
    let among = if up.is_empty() { down } else { up };
    among.iter().map(|target| (target.target().port.number(), target.target().weight)).collect()
}

proptest! {
    #[test]
    fn between_two_changes_round_robin_is_exact_within_1(first in targets(), steps in steps()) {
        let mut circuit = Changing::new(Strategy::RoundRobin);
        circuit.set(&first);
        for (step, count) in steps {
            let among = take(&mut circuit, &step);
            if among.is_empty() {
                prop_assert!(circuit.choose().is_none());
                continue;
            }
            let counts = counts(&circuit.chosen(count));
            let exact = count as f64 / among.len() as f64;
            for (port, _) in &among {
                let share = counts.get(port).copied().unwrap_or(0) as f64;
                prop_assert!((share - exact).abs() < 1.0, "{port} of {among:?}: {share}, exact would be {exact}");
            }
            prop_assert_eq!(counts.values().sum::<usize>(), count);
            prop_assert!(counts.keys().all(|port| among.iter().any(|(known, _)| known == port)));
        }
    }

    /// A change leaves nobody more than one choice ahead or behind, and from there nobody gets further ahead than one or further
    /// behind than a harmonic number more.
    #[test]
    fn between_two_changes_weights_are_honoured_within_the_smooth_bound(first in targets(), steps in steps()) {
        let mut circuit = Changing::new(Strategy::Weighted);
        circuit.set(&first);
        for (step, count) in steps {
            let among = take(&mut circuit, &step);
            if among.is_empty() {
                prop_assert!(circuit.choose().is_none());
                continue;
            }
            let sum: f64 = among.iter().map(|(_, weight)| f64::from(*weight)).sum();
            let bound = 2.0 + harmonic(among.len());
            let counts = counts(&circuit.chosen(count));
            for (port, weight) in &among {
                let (share, exact) = (counts.get(port).copied().unwrap_or(0) as f64, count as f64 * f64::from(*weight) / sum);
                prop_assert!((share - exact).abs() <= bound, "{port} of {among:?}: {share}, exact would be {exact}");
            }
            prop_assert_eq!(counts.values().sum::<usize>(), count);
        }
    }

    #[test]
    fn a_fresh_circuit_is_never_a_whole_choice_ahead(targets in targets(), count in 0..400_usize) {
        let mut circuit = Changing::new(Strategy::Weighted);
        circuit.set(&targets);
        let sum: f64 = targets.iter().map(|(_, weight)| f64::from(*weight)).sum();
        prop_assume!(sum > 0.0);
        let counts = counts(&circuit.chosen(count));
        for (port, weight) in &targets {
            let (share, exact) = (counts.get(port).copied().unwrap_or(0) as f64, count as f64 * f64::from(*weight) / sum);
            prop_assert!(share - exact < 1.0 && exact - share <= harmonic(targets.len()), "{port}: {share}, exact {exact}");
        }
    }

    #[test]
    fn least_connections_never_picks_a_target_with_more_than_the_minimum(
        first in targets(),
        steps in steps(),
        ends in proptest::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let mut circuit = Changing::new(Strategy::LeastConnections);
        circuit.set(&first);
        let mut open: Vec<(u16, Option<Hold>)> = Vec::new();
        let mut ends = ends.iter().cycle();
        for (step, count) in steps {
            let among = take(&mut circuit, &step);
            for turn in 0..count {
                let of = |port: u16| open.iter().filter(|(at, _)| *at == port).count() as u64 + 1;
                let Some(chosen) = circuit.choose() else { break };
                let weight = |port: u16| among.iter().find(|(at, _)| *at == port).map(|(_, weight)| u64::from(*weight));
                let own = weight(chosen.0).expect("it may be chosen");
                for (port, weight) in &among {
                    prop_assert!(of(chosen.0) * u64::from(*weight) <= of(*port) * own, "{} and not {port}", chosen.0);
                }
                open.push(chosen);
                if turn % 3 == 2 {
                    open.swap_remove(ends.next().expect("endless").index(open.len()));
                }
            }
            // What is open at a target that has gone is not counted when it comes back: it was another target.
            let kept: Vec<u16> = circuit.circuit.targets.iter().map(|target| target.port.number()).collect();
            open.retain(|(port, _)| kept.contains(port));
        }
    }
}
