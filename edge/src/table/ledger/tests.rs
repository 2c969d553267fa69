//! The ledger's promises, one by one and under random histories.

use std::time::Duration;

use entities::access::Access;
use entities::balance::LoadBalancing;
use entities::circuit::{Backend, Circuit, Protocol, Traffic};
use entities::frontend::Frontend;
use entities::ids::Port;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const LIMITS: MaxStaleness = MaxStaleness { public: Duration::from_secs(24), private: Duration::from_secs(1) };

/// Plans at one moment; what depends on time is tested in `held`.
trait PlanNow {
    fn plan_now(&mut self, observations: Vec<(CircuitKey, Observation)>) -> Plan;
    fn list_now(&mut self, observations: Vec<(CircuitKey, Observation)>) -> Plan;
}

impl PlanNow for Ledger {
    fn plan_now(&mut self, observations: Vec<(CircuitKey, Observation)>) -> Plan {
        self.plan(observations, Instant::now())
    }

    fn list_now(&mut self, observations: Vec<(CircuitKey, Observation)>) -> Plan {
        self.plan_listing(observations, Instant::now())
    }
}

fn key(name: &str) -> CircuitKey {
    format!("{name}:web").parse().expect("valid")
}

fn open(name: &str, id: u128, generation: u64, port: u16) -> (CircuitKey, Observation) {
    open_of("main", name, id, generation, port)
}

fn open_of(authority: &str, name: &str, id: u128, generation: u64, port: u16) -> (CircuitKey, Observation) {
    let circuit = Circuit {
        id: CircuitId(Uuid::from_u128(id)),
        key: key(name),
        authority: authority.parse().expect("valid"),
        frontend: Frontend::Port { port: Port::try_from(port).expect("valid") },
        protocol: Protocol::Http,
        backend: Backend::Http,
        targets: Vec::new(),
        load_balancing: LoadBalancing::default(),
        access: Access::for_everybody(),
        access_generation: Generation(1),
        traffic: Traffic::default(),
    };
    (key(name), Observation::Open(Box::new(Versioned { generation: Generation(generation), circuit })))
}

fn ledger() -> Ledger {
    Ledger::new("main".parse().expect("valid"), LIMITS)
}

fn slot(port: u16) -> Slot {
    Slot::Port(Port::try_from(port).expect("valid"))
}

fn summary(plan: &Plan) -> (Vec<(String, bool)>, Vec<String>, Vec<String>) {
    let keys = |list: &[Versioned]| list.iter().map(|versioned| versioned.circuit.key.to_string()).collect::<Vec<_>>();
    let leaving = plan.leaving.iter().map(|leaving| (leaving.key.to_string(), leaving.is_moving)).collect();
    (leaving, keys(&plan.changing), keys(&plan.entering))
}

#[test]
fn a_new_circuit_enters_and_a_newer_generation_changes_it_in_place() {
    let mut ledger = ledger();
    assert_eq!(summary(&ledger.plan_now(vec![open("a", 1, 1, 80)])), (vec![], vec![], vec!["a:web".into()]));
    assert_eq!(summary(&ledger.plan_now(vec![open("a", 1, 2, 80)])), (vec![], vec!["a:web".into()], vec![]));
}

#[test]
fn an_older_or_equal_generation_is_ignored() {
    let mut ledger = ledger();
    ledger.plan_now(vec![open("a", 1, 5, 80)]);
    for generation in [4, 5] {
        assert_eq!(summary(&ledger.plan_now(vec![open("a", 1, generation, 81)])), (vec![], vec![], vec![]));
    }
    assert_eq!(
        summary(&ledger.plan_now(vec![(key("a"), Observation::Closed(Generation(4)))])),
        (vec![], vec![], vec![])
    );
}

#[test]
fn a_reopened_key_is_a_new_life_even_when_its_generation_starts_again() {
    let mut ledger = ledger();
    ledger.plan_now(vec![open("a", 1, 5, 80)]);
    let plan = ledger.plan_now(vec![open("a", 2, 1, 80)]);
    assert_eq!(summary(&plan), (vec![("a:web".into(), false)], vec![], vec!["a:web".into()]));
}

#[test]
fn a_moved_circuit_leaves_and_enters_in_one_life() {
    let mut ledger = ledger();
    ledger.plan_now(vec![open("a", 1, 1, 80)]);
    let plan = ledger.plan_now(vec![open("a", 1, 2, 81)]);
    assert_eq!(summary(&plan), (vec![("a:web".into(), true)], vec![], vec!["a:web".into()]));
    assert_eq!(plan.leaving[0].slot, slot(80));
}

#[test]
fn a_slot_passes_from_one_circuit_to_another_within_one_batch_whatever_the_order() {
    let mut ledger = ledger();
    ledger.plan_now(vec![open("a", 1, 1, 80)]);
    let plan = ledger.plan_now(vec![open("b", 2, 1, 80), (key("a"), Observation::Closed(Generation(2)))]);
    assert_eq!(summary(&plan), (vec![("a:web".into(), false)], vec![], vec!["b:web".into()]));
}

#[test]
fn the_second_circuit_in_a_slot_is_refused_until_its_key_changes() {
    let mut ledger = ledger();
    ledger.plan_now(vec![open("a", 1, 1, 80)]);
    assert_eq!(summary(&ledger.plan_now(vec![open("b", 2, 1, 80)])), (vec![], vec![], vec![]));
    let refusal = Refusal { key: key("b"), generation: Generation(1), code: RefusalCode::SlotTaken };
    assert_eq!(ledger.refusals(10), [refusal]);
    let plan = ledger.plan_now(vec![open("b", 2, 2, 81)]);
    assert_eq!(summary(&plan), (vec![], vec![], vec!["b:web".into()]));
    assert_eq!(ledger.refused(), 0);
}

#[test]
fn what_could_not_be_bound_is_tried_again_by_the_next_list() {
    let mut ledger = ledger();
    ledger.plan_now(vec![open("a", 1, 1, 80)]);
    ledger.refuse(key("a"), RefusalCode::PortInUse);
    assert_eq!((ledger.served(), ledger.refused()), (0, 1));
    let plan = ledger.list_now(vec![open("a", 1, 1, 80)]);
    assert_eq!(summary(&plan), (vec![], vec![], vec!["a:web".into()]));
}

#[test]
fn other_authorities_are_dropped_and_what_went_to_one_is_removed() {
    let mut ledger = ledger();
    assert_eq!(summary(&ledger.plan_now(vec![open_of("other", "b", 2, 1, 81)])), (vec![], vec![], vec![]));
    ledger.plan_now(vec![open("a", 1, 1, 80)]);
    let plan = ledger.plan_now(vec![open_of("other", "a", 1, 2, 80)]);
    assert_eq!(summary(&plan), (vec![("a:web".into(), false)], vec![], vec![]));
}

#[test]
fn a_list_removes_what_it_does_not_name_and_keeps_what_cannot_be_read() {
    let mut ledger = ledger();
    ledger.plan_now(vec![open("a", 1, 1, 80), open("b", 2, 1, 81)]);
    let plan = ledger.list_now(vec![(key("a"), Observation::Unreadable)]);
    assert_eq!(summary(&plan), (vec![("b:web".into(), false)], vec![], vec![]));
}

/// Circuits at ports from 2000 on.
fn many(count: u16) -> Vec<(CircuitKey, Observation)> {
    (0..count).map(|number| open(&format!("c{number}"), number.into(), 1, 2_000 + number)).collect()
}

fn circuits(observations: Vec<(CircuitKey, Observation)>) -> Vec<Versioned> {
    let circuit = |(_, observation)| match observation {
        Observation::Open(versioned) => *versioned,
        other => unreachable!("{other:?} is no circuit"),
    };
    observations.into_iter().map(circuit).collect()
}

#[test]
fn a_list_that_would_remove_too_much_removes_nothing_and_applies_the_rest() {
    let mut ledger = ledger();
    ledger.plan_now(many(200));
    let mut list = many(99);
    list.push(open("new", 999, 1, 80));
    let plan = ledger.list_now(list);
    assert_eq!(summary(&plan), (vec![], vec![], vec!["new:web".into()]));
    assert_eq!((ledger.served(), ledger.held_back()), (201, 101));
    let plan = ledger.list_now(many(200));
    assert_eq!(summary(&plan).0, [("new:web".to_owned(), false)]);
    assert_eq!((ledger.served(), ledger.held_back()), (200, 0));
}

#[test]
fn deletions_in_one_batch_are_held_back_like_those_of_a_list() {
    let mut ledger = ledger();
    ledger.plan_now(many(200));
    let gone =
        |range: std::ops::Range<u16>| range.map(|number| (key(&format!("c{number}")), Observation::Gone)).collect();
    assert_eq!(ledger.plan_now(gone(0..101)).leaving.len(), 0);
    assert_eq!(ledger.plan_now(gone(100..103)).leaving.len(), 0);
    assert_eq!((ledger.served(), ledger.held_back()), (200, 103));
    // Named again, three of them: the others are few enough to be believed.
    let plan = ledger.plan_now(many(3));
    assert_eq!((plan.leaving.len(), ledger.served(), ledger.held_back()), (100, 100, 0));
}

#[test]
fn explicit_ends_are_carried_out_however_many_they_are() {
    let mut ledger = ledger();
    ledger.plan_now(many(300));
    let closed = (0..150).map(|number| (key(&format!("c{number}")), Observation::Closed(Generation(2))));
    let elsewhere = (150..300).map(|number| (key(&format!("c{number}")), Observation::Elsewhere));
    assert_eq!(ledger.list_now(closed.chain(elsewhere).collect()).leaving.len(), 300);
    assert_eq!((ledger.served(), ledger.held_back()), (0, 0));
}

#[test]
fn closing_what_is_held_back_frees_the_rest_when_that_is_few_enough() {
    let mut ledger = ledger();
    ledger.plan_now(many(150));
    ledger.list_now(vec![]);
    assert_eq!(ledger.held_back(), 150);
    let closed = |range: std::ops::Range<u16>| {
        range.map(|number| (key(&format!("c{number}")), Observation::Closed(Generation(2)))).collect::<Vec<_>>()
    };
    assert_eq!(ledger.plan_now(closed(0..49)).leaving.len(), 49);
    assert_eq!(ledger.held_back(), 101);
    assert_eq!(ledger.plan_now(closed(49..50)).leaving.len(), 101);
    assert_eq!((ledger.served(), ledger.held_back()), (0, 0));
}

#[test]
fn a_circuit_that_is_held_back_gives_its_slot_to_another_at_once() {
    let mut ledger = ledger();
    ledger.plan_now(many(150));
    ledger.list_now(vec![]);
    let plan = ledger.plan_now(vec![open("new", 999, 1, 2_005)]);
    assert_eq!(summary(&plan), (vec![("c5:web".into(), false)], vec![], vec!["new:web".into()]));
    assert_eq!((ledger.served(), ledger.held_back(), ledger.refused()), (150, 149, 0));
}

#[test]
fn the_first_list_alone_is_served_and_what_it_closed_is_forgotten() {
    let mut ledger = ledger();
    ledger.remember(circuits(many(3)));
    assert_eq!(ledger.served(), 0);
    let plan = ledger.list_now(vec![open("c0", 0, 2, 80), (key("c1"), Observation::Closed(Generation(2)))]);
    assert_eq!(summary(&plan), (vec![], vec![], vec!["c0:web".into()]));
    let mut forgotten = plan.forgotten;
    forgotten.sort();
    assert_eq!(forgotten, [key("c1"), key("c2")]);
    assert!(!ledger.knows(&key("c1")));
}

#[test]
fn a_first_list_that_misses_too_much_of_the_snapshot_brings_it_back() {
    let mut ledger = ledger();
    ledger.remember(circuits(many(200)));
    let list = vec![
        open("new", 999, 1, 2_005),
        (key("c6"), Observation::Closed(Generation(2))),
        (key("c7"), Observation::Unreadable),
    ];
    let plan = ledger.list_now(list);
    assert_eq!((plan.leaving.len(), plan.entering.len(), ledger.held_back()), (0, 199, 197));
    let mut forgotten = plan.forgotten;
    forgotten.sort();
    assert_eq!(forgotten, [key("c5"), key("c6")]);
}

#[test]
fn the_snapshot_is_served_when_it_has_to_be_and_then_compared_like_any_table() {
    let mut ledger = ledger();
    ledger.remember(circuits(many(3)));
    assert_eq!(ledger.plan_remembered().entering.len(), 3);
    let plan = ledger.list_now(many(2));
    assert_eq!(summary(&plan), (vec![("c2:web".into(), false)], vec![], vec![]));
}

#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<(CircuitKey, Observation)>),
    Listing(Vec<(CircuitKey, Observation)>),
    Refuse(CircuitKey),
}

fn observation() -> impl Strategy<Value = (CircuitKey, Observation)> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    (name, 0..8_u8, 1..4_u128, 1..6_u64, 80..83_u16).prop_map(|(name, kind, id, generation, port)| match kind {
        0 => (key(name), Observation::Gone),
        1 => (key(name), Observation::Closed(Generation(generation))),
        2 => (key(name), Observation::Unreadable),
        3 => open_of("other", name, id, generation, port),
        _ => open(name, id, generation, port),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let batch = || {
        prop::collection::vec(observation(), 0..5).prop_map(|list| {
            let last_wins: HashMap<CircuitKey, Observation> = list.into_iter().collect();
            last_wins.into_iter().collect::<Vec<_>>()
        })
    };
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        6 => batch().prop_map(Step::Batch),
        2 => batch().prop_map(Step::Listing),
        1 => name.prop_map(|name| Step::Refuse(key(name))),
    ]
}

proptest! {
    /// Whoever carries out the plans has exactly the circuits of the ledger, each slot once.
    #[test]
    fn plans_lead_to_what_the_ledger_says(steps in prop::collection::vec(step(), 0..40)) {
        let mut ledger = ledger();
        let mut table: HashMap<Slot, Versioned> = HashMap::new();
        for step in steps {
            let plan = match step {
                Step::Batch(batch) => ledger.plan_now(batch),
                Step::Listing(listing) => ledger.list_now(listing),
                Step::Refuse(key) => {
                    if let Some(served) = ledger.served.get(&key) {
                        table.remove(&served.slot);
                    }
                    ledger.refuse(key, RefusalCode::PortFailed);
                    Plan::default()
                }
            };
            for leaving in plan.leaving {
                prop_assert_eq!(table.remove(&leaving.slot).map(|gone| gone.circuit.key), Some(leaving.key));
            }
            for versioned in plan.changing {
                let before = table.insert(Slot::of(&versioned.circuit.frontend), versioned.clone());
                prop_assert_eq!(before.map(|before| before.circuit.id), Some(versioned.circuit.id));
            }
            for versioned in plan.entering {
                prop_assert!(table.insert(Slot::of(&versioned.circuit.frontend), versioned).is_none());
            }
            let carried_out: HashMap<CircuitKey, Served> = table.iter().map(|(slot, versioned)| {
                let served = Served {
                    id: versioned.circuit.id,
                    generation: versioned.generation,
                    slot: slot.clone(),
                    is_public: true,
                };
                (versioned.circuit.key.clone(), served)
            }).collect();
            prop_assert_eq!(&carried_out, &ledger.served);
            let owners: HashMap<Slot, CircuitKey> =
                carried_out.iter().map(|(key, served)| (served.slot.clone(), key.clone())).collect();
            prop_assert_eq!(&owners, &ledger.owners);
            prop_assert!(ledger.refused.keys().all(|key| !ledger.served.contains_key(key)));
        }
    }
}
