//! What reaches the disk, and how little.

use std::sync::Arc;

use entities::access::Access;
use entities::balance::LoadBalancing;
use entities::circuit::{Backend, Circuit, Protocol, Traffic};
use entities::clock::SystemClock;
use entities::frontend::Frontend;
use entities::ids::Port;
use uuid::Uuid;

use super::*;

fn circuit(number: u128, generation: u64) -> Versioned {
    let circuit = Circuit {
        id: CircuitId(Uuid::from_u128(number)),
        key: format!("c{number}:web").parse().expect("valid"),
        authority: "main".parse().expect("valid"),
        frontend: Frontend::Port { port: Port::try_from(30_000).expect("valid") },
        protocol: Protocol::Http,
        backend: Backend::Http,
        targets: Vec::new(),
        load_balancing: LoadBalancing::default(),
        access: Access::for_everybody(),
        access_generation: Generation(1),
        traffic: Traffic::default(),
    };
    Versioned { generation: Generation(generation), circuit }
}

fn journal(circuits: &[Versioned]) -> Journal {
    Journal::new(circuits, Arc::new(SystemClock))
}

/// What there is to write, sorted: the key, and whether the circuit is alive.
fn taken(journal: &Journal) -> Vec<(String, bool)> {
    journal.stop();
    let round = journal.next_round(Instant::now(), Duration::ZERO);
    let mut changes: Vec<_> = round.changes.iter().map(|(key, value)| (key.to_string(), value.is_some())).collect();
    changes.sort();
    changes
}

#[test]
fn a_list_of_fifty_thousand_with_ten_changes_writes_ten() {
    let all: Vec<Versioned> = (0..50_000).map(|number| circuit(number, 1)).collect();
    let journal = journal(&all);
    for versioned in &all {
        journal.put(versioned);
    }
    for number in 0..10 {
        journal.put(&circuit(number, 2));
    }
    assert_eq!(taken(&journal).len(), 10);
}

#[test]
fn of_each_circuit_the_last_change_is_written() {
    let journal = journal(&[circuit(1, 1), circuit(2, 1)]);
    journal.put(&circuit(1, 2));
    journal.gone(&circuit(1, 2).circuit.key);
    journal.gone(&circuit(2, 1).circuit.key);
    journal.put(&circuit(2, 2));
    assert_eq!(taken(&journal), [("c1:web".to_owned(), false), ("c2:web".to_owned(), true)]);
}

#[test]
fn circuits_that_come_and_go_while_the_disk_hangs_take_no_room() {
    let journal = journal(&[]);
    for number in 0..1_000 {
        journal.put(&circuit(number, 1));
        journal.gone(&circuit(number, 1).circuit.key);
    }
    assert_eq!(journal.state.lock().pending.len(), 0);
    assert_eq!(taken(&journal), []);
}

#[test]
fn what_could_not_be_written_is_written_later_unless_it_has_changed() {
    let journal = journal(&[]);
    journal.put(&circuit(1, 1));
    journal.put(&circuit(2, 1));
    journal.put(&circuit(3, 1));
    journal.stop();
    let round = journal.next_round(Instant::now(), Duration::ZERO);
    // While it was being written: its end may be news to the file.
    journal.gone(&circuit(1, 1).circuit.key);
    journal.put(&circuit(2, 2));
    journal.put_back(round.changes, round.keys);
    let round = journal.next_round(Instant::now(), Duration::ZERO);
    let value = |number: u128| {
        let key = circuit(number, 1).circuit.key;
        round.changes.iter().find(|(found, _)| *found == key).expect("to be written").1.clone()
    };
    assert_eq!(value(1), None);
    assert!(String::from_utf8(value(2).expect("alive")).expect("JSON").contains("\"generation\":2"));
    assert!(value(3).is_some());
}

#[test]
fn the_position_is_as_old_as_the_last_time_that_a_registry_was_followed() {
    let journal = journal(&[]);
    assert_eq!(journal.age_s(), None);
    let followed = Followed {
        installation_id: entities::ids::InstallationId::random(),
        epoch: entities::ids::Epoch::random(),
        revision: entities::ids::Revision(5),
    };
    journal.advance(followed);
    journal.set_following(true);
    journal.set_following(false);
    journal.state.lock().confirmed_at_ms = 77;
    let round = journal.next_round(Instant::now(), Duration::ZERO);
    assert_eq!(round.position.map(|position| (position.revision.0, position.confirmed_at_ms)), Some((5, 77)));
    assert!(round.changes.is_empty() && !round.is_last);
    journal.confirm();
    assert_eq!(journal.age_s(), Some(0));
}
