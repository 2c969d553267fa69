//! What every registry must do, written against `trait Registry` alone.
//!
//! Invariant: no test here knows which registry it drives; each works under a prefix of its own, so that they may
//! share one.

use std::time::Duration;

use entities::ids::Revision;
use entities::registry::{Batch, Change, Event, Expected, Fence, Registry, RegistryError, Swap, Watch, Write};

use crate::wait::{wait_until, within};

/// Runs every test of the contract.
pub async fn check(registry: &dyn Registry) {
    writes_happen_only_when_the_key_is_as_expected(registry).await;
    a_fence_keeps_out_whoever_does_not_know_its_last_write(registry).await;
    a_listing_holds_every_key_under_the_prefix_and_no_other(registry).await;
    a_watch_sees_every_change_from_its_revision_on(registry).await;
    a_watch_can_start_in_the_past(registry).await;
    list_then_watch_misses_nothing_under_writes(registry).await;
    keys_of_a_lease_go_with_it(registry).await;
    a_revoked_lease_takes_its_keys_along(registry).await;
    an_ended_lease_is_an_error_to_keep_alive_and_to_write_with(registry).await;
    a_value_over_the_limit_is_refused(registry).await;
}

async fn put(registry: &dyn Registry, key: &str, expected: Expected, value: &str) -> Swap {
    registry.put(key, expected, value.as_bytes().to_vec(), None).await.expect("the registry answers")
}

async fn put_new(registry: &dyn Registry, key: &str, value: &str) -> Revision {
    match put(registry, key, Expected::Absent, value).await {
        Swap::Done(revision) => revision,
        Swap::Conflict => panic!("{key} exists already"),
    }
}

async fn value_of(registry: &dyn Registry, key: &str) -> Option<String> {
    let (entry, _) = registry.get(key).await.expect("the registry answers");
    entry.map(|entry| String::from_utf8(entry.value).expect("text"))
}

async fn next(watch: &mut Watch) -> Batch {
    within("a batch", watch.next()).await.expect("the watch goes on")
}

/// Collects events until one of `revision` has come.
async fn until(watch: &mut Watch, revision: Revision) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let batch = next(watch).await;
        events.extend(batch.events);
        if batch.revision >= revision {
            return events;
        }
    }
}

async fn writes_happen_only_when_the_key_is_as_expected(registry: &dyn Registry) {
    let key = "/contract/cas/a";
    let first = put_new(registry, key, "1").await;
    assert_eq!(put(registry, key, Expected::Absent, "2").await, Swap::Conflict, "the key exists");
    let Swap::Done(second) = put(registry, key, Expected::At(first), "2").await else { panic!("it was as expected") };
    assert!(second > first);
    assert_eq!(put(registry, key, Expected::At(first), "3").await, Swap::Conflict, "the revision is old");
    assert_eq!(registry.delete(key, first).await.expect("answers"), Swap::Conflict, "the revision is old");
    assert_eq!(value_of(registry, key).await.as_deref(), Some("2"));
    assert!(matches!(registry.delete(key, second).await.expect("answers"), Swap::Done(at) if at > second));
    assert_eq!(value_of(registry, key).await, None);
    assert_eq!(registry.delete(key, second).await.expect("answers"), Swap::Conflict, "the key is gone");
}

async fn a_fence_keeps_out_whoever_does_not_know_its_last_write(registry: &dyn Registry) {
    let (key, fence_key) = ("/contract/fence/a", "/contract/fence/of");
    let fence = |revision| Fence { key: fence_key.to_owned(), revision };
    let put = |expected, fence| {
        let change = Change::Put { value: b"x".to_vec(), lease: None };
        registry.write(Write { key, expected, change, fence })
    };
    let absent = fence(Revision(1));
    assert_eq!(put(Expected::Absent, Some(&absent)).await.expect("answers"), Swap::Conflict, "there is no such fence");
    let first = fence(put_new(registry, fence_key, "1").await);
    let Swap::Done(at) = put(Expected::Absent, Some(&first)).await.expect("answers") else { panic!("it stands") };
    assert_eq!(put(Expected::Absent, Some(&first)).await.expect("answers"), Swap::Conflict, "the key counts too");
    let written = registry.put(fence_key, Expected::At(first.revision), b"2".to_vec(), None).await.expect("answers");
    let Swap::Done(moved) = written else { panic!("it was as expected") };
    assert_eq!(put(Expected::At(at), Some(&first)).await.expect("answers"), Swap::Conflict, "the fence has moved");
    let delete = |fence| registry.write(Write { key, expected: Expected::At(at), change: Change::Delete, fence });
    assert_eq!(delete(Some(&first)).await.expect("answers"), Swap::Conflict, "the fence has moved");
    let second = fence(moved);
    assert!(matches!(delete(Some(&second)).await.expect("answers"), Swap::Done(_)));
}

async fn a_listing_holds_every_key_under_the_prefix_and_no_other(registry: &dyn Registry) {
    let mut last = Revision::default();
    for number in 0..450 {
        last = put_new(registry, &format!("/contract/list/in/{number:03}"), "x").await;
    }
    put_new(registry, "/contract/list/out", "x").await;
    put_new(registry, "/contract/list/in0", "x").await;
    let listing = registry.list("/contract/list/in/").await.expect("answers");
    let keys: Vec<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
    let wanted: Vec<String> = (0..450).map(|number| format!("/contract/list/in/{number:03}")).collect();
    assert_eq!(keys, wanted, "all of them, in order");
    assert!(listing.revision > last, "the revision is that of the listing, not of a key");
    assert!(listing.entries.iter().all(|entry| entry.revision <= last));
}

async fn a_watch_sees_every_change_from_its_revision_on(registry: &dyn Registry) {
    let before = registry.list("/contract/watch/").await.expect("answers").revision;
    let mut watch = registry.watch("/contract/watch/", before.next()).await.expect("watches");
    let first = put_new(registry, "/contract/watch/a", "1").await;
    put_new(registry, "/contract/elsewhere", "x").await;
    let second = match put(registry, "/contract/watch/a", Expected::At(first), "2").await {
        Swap::Done(revision) => revision,
        Swap::Conflict => panic!("it was as expected"),
    };
    let Swap::Done(third) = registry.delete("/contract/watch/a", second).await.expect("answers") else {
        panic!("it was as expected")
    };
    let events = until(&mut watch, third).await;
    let seen: Vec<(&str, Option<&[u8]>)> = events
        .iter()
        .map(|event| match event {
            Event::Put(entry) => (entry.key.as_str(), Some(entry.value.as_slice())),
            Event::Deleted { key, .. } => (key.as_str(), None),
        })
        .collect();
    let key = "/contract/watch/a";
    assert_eq!(seen, [(key, Some(&b"1"[..])), (key, Some(&b"2"[..])), (key, None)]);
}

async fn a_watch_can_start_in_the_past(registry: &dyn Registry) {
    let first = put_new(registry, "/contract/past/a", "1").await;
    let second = put_new(registry, "/contract/past/b", "1").await;
    let mut watch = registry.watch("/contract/past/", second).await.expect("watches");
    let events = until(&mut watch, second).await;
    let keys: Vec<&str> = events.iter().map(Event::key).collect();
    assert_eq!(keys, ["/contract/past/b"], "from {second} on, not from {first}");
}

async fn list_then_watch_misses_nothing_under_writes(registry: &dyn Registry) {
    const WRITES: usize = 200;
    let writer = async {
        for number in 0..WRITES {
            put_new(registry, &format!("/contract/race/{number:03}"), "x").await;
        }
    };
    let reader = async {
        let listing = registry.list("/contract/race/").await.expect("answers");
        let mut seen: Vec<String> = listing.entries.into_iter().map(|entry| entry.key).collect();
        let mut watch = registry.watch("/contract/race/", listing.revision.next()).await.expect("watches");
        while seen.len() < WRITES {
            seen.extend(next(&mut watch).await.events.iter().map(|event| event.key().to_owned()));
        }
        seen
    };
    let ((), mut seen) = tokio::join!(writer, reader);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), WRITES, "each key once, none missed");
}

async fn keys_of_a_lease_go_with_it(registry: &dyn Registry) {
    let before = registry.list("/contract/lease/").await.expect("answers").revision;
    let mut watch = registry.watch("/contract/lease/", before.next()).await.expect("watches");
    let lease = registry.grant_lease(Duration::from_secs(1)).await.expect("granted");
    registry.put("/contract/lease/a", Expected::Absent, b"x".to_vec(), Some(lease)).await.expect("written");
    registry.keep_alive(lease).await.expect("it lives");
    wait_until("the lease's end", async || value_of(registry, "/contract/lease/a").await.is_none()).await;
    let put = next(&mut watch).await;
    assert!(matches!(put.events.as_slice(), [Event::Put(_)]));
    let gone = next(&mut watch).await;
    assert!(matches!(gone.events.as_slice(), [Event::Deleted { .. }]), "the watch is told too");
}

async fn a_revoked_lease_takes_its_keys_along(registry: &dyn Registry) {
    let lease = registry.grant_lease(Duration::from_secs(60)).await.expect("granted");
    registry.put("/contract/revoke/a", Expected::Absent, b"x".to_vec(), Some(lease)).await.expect("written");
    registry.revoke_lease(lease).await.expect("revoked");
    assert_eq!(value_of(registry, "/contract/revoke/a").await, None);
}

async fn an_ended_lease_is_an_error_to_keep_alive_and_to_write_with(registry: &dyn Registry) {
    let lease = registry.grant_lease(Duration::from_secs(60)).await.expect("granted");
    registry.revoke_lease(lease).await.expect("revoked");
    assert_eq!(registry.keep_alive(lease).await, Err(RegistryError::LeaseEnded));
    let written = registry.put("/contract/ended/a", Expected::Absent, b"x".to_vec(), Some(lease)).await;
    assert_eq!(written, Err(RegistryError::LeaseEnded));
}

async fn a_value_over_the_limit_is_refused(registry: &dyn Registry) {
    let limit = entities::limits::MAX_REGISTRY_VALUE_BYTES;
    let fits = registry.put("/contract/size/a", Expected::Absent, vec![b'x'; limit], None).await;
    assert!(matches!(fits, Ok(Swap::Done(_))));
    let over = registry.put("/contract/size/b", Expected::Absent, vec![b'x'; limit + 1], None).await;
    assert_eq!(over, Err(RegistryError::ValueTooLarge { bytes: limit + 1, limit }));
}
