//! What the file promises: nothing that was written is lost, nothing that is broken is believed.

use std::collections::HashMap;

use entities::access::Access;
use entities::balance::LoadBalancing;
use entities::circuit::{Backend, Circuit, Protocol, Traffic};
use entities::frontend::Frontend;
use entities::ids::{CircuitId, Epoch, Generation, InstallationId, Port, Revision};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn key(name: &str) -> CircuitKey {
    format!("{name}:web").parse().expect("valid")
}

fn circuit(name: &str, generation: u64) -> Versioned {
    let circuit = Circuit {
        id: CircuitId(Uuid::from_u128(1)),
        key: key(name),
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

fn put(name: &str, generation: u64) -> Change {
    let state = CircuitState::Open(Box::new(circuit(name, generation)));
    (key(name), Some(state.encode().expect("fits")))
}

fn position(revision: u64) -> Option<SavedPosition> {
    Some(SavedPosition {
        installation_id: InstallationId(Uuid::from_u128(1)),
        epoch: Epoch(Uuid::from_u128(2)),
        revision: Revision(revision),
        confirmed_at_ms: 1_000,
    })
}

fn served(log: &Log) -> HashMap<CircuitKey, u64> {
    let circuits = log.circuits().expect("readable");
    circuits.into_iter().map(|versioned| (versioned.circuit.key, versioned.generation.0)).collect()
}

fn reopened(folder: &Path) -> (HashMap<CircuitKey, u64>, Option<u64>) {
    let log = Log::open(folder).expect("it opens");
    (served(&log), log.position().map(|position| position.revision.0))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn file_in(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

#[test]
fn what_was_appended_is_read_again_and_only_the_owner_may_read_it() {
    let folder = folder();
    let mut log = Log::open(folder.path()).expect("it opens");
    log.append(&[put("a", 1), put("b", 1)], None, position(7)).expect("written");
    log.append(&[put("a", 2), (key("b"), None), (key("never"), None)], None, None).expect("written");
    assert_eq!(served(&log), HashMap::from([(key("a"), 2)]));
    assert_eq!(reopened(folder.path()), (HashMap::from([(key("a"), 2)]), Some(7)));
    let mode = fs::metadata(file_in(folder.path())).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_torn_at_any_byte_of_its_last_record_keeps_all_before_and_takes_new_ones() {
    let folder = folder();
    let mut log = Log::open(folder.path()).expect("it opens");
    log.append(&[put("a", 1)], None, position(7)).expect("written");
    let good = log.bytes();
    log.append(&[put("b", 1)], None, None).expect("written");
    let whole = fs::read(file_in(folder.path())).expect("readable");
    for length in good as usize..whole.len() {
        fs::write(file_in(folder.path()), &whole[..length]).expect("writable");
        assert_eq!(reopened(folder.path()), (HashMap::from([(key("a"), 1)]), Some(7)), "torn at {length}");
        let mut log = Log::open(folder.path()).expect("it opens");
        log.append(&[put("c", 3)], None, position(8)).expect("written");
        let expected = HashMap::from([(key("a"), 1), (key("c"), 3)]);
        assert_eq!(reopened(folder.path()), (expected, Some(8)), "torn at {length}");
    }
}

#[test]
fn a_record_broken_at_any_byte_ends_the_file_before_it() {
    let folder = folder();
    let mut log = Log::open(folder.path()).expect("it opens");
    log.append(&[put("a", 1)], None, position(7)).expect("written");
    let good = log.bytes() as usize;
    log.append(&[put("b", 1)], None, None).expect("written");
    let next = log.bytes() as usize;
    log.append(&[put("c", 1)], None, position(9)).expect("written");
    let whole = fs::read(file_in(folder.path())).expect("readable");
    for broken in good..next {
        let mut bytes = whole.clone();
        bytes[broken] ^= 0x40;
        fs::write(file_in(folder.path()), bytes).expect("writable");
        assert_eq!(reopened(folder.path()), (HashMap::from([(key("a"), 1)]), Some(7)), "broken at {broken}");
        // It takes the very room of the broken one: what stood behind that must not join it.
        let mut log = Log::open(folder.path()).expect("it opens");
        log.append(&[put("d", 1)], None, None).expect("written");
        let expected = HashMap::from([(key("a"), 1), (key("d"), 1)]);
        assert_eq!(reopened(folder.path()), (expected, Some(7)), "broken at {broken}");
    }
}

#[test]
fn a_file_of_no_known_format_is_kept_aside() {
    let mut newer = HEADER.to_vec();
    newer[8] = 2;
    for (content, is_kept) in
        [(&b"something else entirely"[..], true), (&newer, true), (&HEADER[..5], false), (b"", false)]
    {
        let folder = folder();
        fs::write(file_in(folder.path()), content).expect("writable");
        assert_eq!(reopened(folder.path()), (HashMap::new(), None));
        let aside = folder.path().join("circuits.snapshot.unreadable");
        assert_eq!(fs::read(aside).ok().as_deref(), is_kept.then_some(content));
        let mut log = Log::open(folder.path()).expect("it opens");
        log.append(&[put("a", 1)], None, None).expect("written");
        assert_eq!(reopened(folder.path()).0.len(), 1);
    }
}

#[test]
fn a_write_that_fails_leaves_what_was_written_and_the_next_one_goes_on_from_there() {
    let folder = folder();
    let mut log = Log::open(folder.path()).expect("it opens");
    log.append(&[put("a", 1)], None, position(7)).expect("written");
    // The disk took all but the beginning, and what follows is as long as that.
    let mut tail = vec![0; HEAD_BYTES + format::gone(&key("a")).len()];
    format::push(&mut tail, &put("stray", 1).1.expect("alive")).expect("fits");
    log.file.write_all_at(&tail, log.end).expect("writable");
    log.has_tail = true;
    let too_large = (key("b"), Some(vec![b' '; entities::limits::MAX_REGISTRY_VALUE_BYTES + 1]));
    log.append(&[put("b", 1), too_large], None, None).expect_err("it does not fit");
    assert_eq!(served(&log), HashMap::from([(key("a"), 1)]));
    log.append(&[(key("a"), None)], None, None).expect("written");
    assert_eq!(reopened(folder.path()), (HashMap::new(), Some(7)));
}

#[test]
fn a_file_that_is_mostly_dead_is_rewritten_and_a_small_one_is_not() {
    let folder = folder();
    let mut log = Log::open(folder.path()).expect("it opens");
    log.append(&[put("still", 1)], None, position(7)).expect("written");
    let mut generation = 0;
    while log.bytes() <= MIN_COMPACTION_BYTES {
        log.compact_if_due().expect("nothing to do");
        let before = log.bytes();
        let changes: Vec<Change> = (0..1_000).map(|number| put("busy", generation + number)).collect();
        log.append(&changes, None, position(8)).expect("written");
        assert!(log.bytes() > before);
        generation += 1_000;
    }
    log.compact_if_due().expect("rewritten");
    assert!(log.bytes() < 2_000, "{}", log.bytes());
    let expected = HashMap::from([(key("still"), 1), (key("busy"), generation - 1)]);
    assert_eq!(reopened(folder.path()), (expected, Some(8)));
}

#[derive(Debug, Clone)]
enum Act {
    Append(Vec<(u8, Option<u64>)>),
    Compact,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let change = (0..6_u8, prop::option::weighted(0.7, 1..100_u64));
    prop_oneof![
        6 => prop::collection::vec(change, 0..6).prop_map(Act::Append),
        2 => Just(Act::Compact),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is appended, rewritten and opened again, the file says what was said last of each circuit.
    #[test]
    fn the_file_says_exactly_the_circuits_that_are_alive(acts in prop::collection::vec(act(), 0..20)) {
        let folder = folder();
        let mut log = Log::open(folder.path()).expect("it opens");
        let mut expected: HashMap<CircuitKey, u64> = HashMap::new();
        for act in acts {
            match act {
                Act::Append(changes) => {
                    let last: HashMap<u8, Option<u64>> = changes.into_iter().collect();
                    let changes: Vec<Change> = last.into_iter().map(|(number, generation)| {
                        let name = format!("c{number}");
                        match generation {
                            Some(generation) => {
                                expected.insert(key(&name), generation);
                                put(&name, generation)
                            }
                            None => {
                                expected.remove(&key(&name));
                                (key(&name), None)
                            }
                        }
                    }).collect();
                    log.append(&changes, None, position(1)).expect("written");
                }
                Act::Compact => log.compact().expect("rewritten"),
                Act::Reopen => log = Log::open(folder.path()).expect("it opens"),
            }
            prop_assert_eq!(&served(&log), &expected);
            let live: u64 = log.index.values().map(|span| span.record_bytes()).sum();
            prop_assert_eq!(log.live_bytes, live);
            prop_assert_eq!(fs::metadata(file_in(folder.path())).expect("there").len(), log.bytes());
        }
        drop(log);
        prop_assert_eq!(reopened(folder.path()).0, expected);
    }
}
