//! etcd keeps the contract of every registry, for as much as a cluster holds.

use std::time::Duration;

use entities::ids::Revision;
use entities::limits::MAX_REGISTRY_VALUE_BYTES;
use entities::registry::etcd::EtcdRegistry;
use entities::registry::{Expected, Registry, RegistryError, Swap};
use futures_util::{StreamExt, TryStreamExt, stream};
use testkit::etcd::{Etcd, Options, Program};
use testkit::wait::{wait_until, within};

testkit::on_each_etcd!(
    etcd_keeps_the_contract_of_every_registry,
    a_list_over_the_clients_limit_comes_in_pages_of_one_revision,
    a_list_goes_on_where_small_values_end_and_the_largest_begin,
    the_largest_value_fits_two_hundred_times_into_one_page,
    a_lease_that_ran_out_cannot_be_kept_alive_nor_written_with,
    a_full_etcd_refuses_writes_with_its_reason_and_still_reads,
);

/// Writes `count` keys under `prefix`, many at a time; returns the last revision.
pub(crate) async fn fill(registry: &EtcdRegistry, prefix: &str, count: usize, bytes: usize) -> Revision {
    try_fill(registry, prefix, count, bytes).await.expect("etcd takes them")
}

async fn try_fill(
    registry: &EtcdRegistry,
    prefix: &str,
    count: usize,
    bytes: usize,
) -> Result<Revision, RegistryError> {
    stream::iter(0..count)
        .map(async |number| {
            let written =
                registry.put(&format!("{prefix}{number:06}"), Expected::Absent, vec![b'x'; bytes], None).await;
            match written? {
                Swap::Done(revision) => Ok(revision),
                Swap::Conflict => panic!("nobody else writes"),
            }
        })
        .buffer_unordered(64)
        .try_fold(Revision::default(), async |last, revision| Ok(last.max(revision)))
        .await
}

async fn etcd_keeps_the_contract_of_every_registry(program: Program) {
    let etcd = Etcd::start(program).await;
    testkit::registry_contract::check(&etcd.registry()).await;
}

async fn a_list_over_the_clients_limit_comes_in_pages_of_one_revision(program: Program) {
    const KEYS: usize = 1_200;
    let etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    let last = fill(&registry, "/large/", KEYS, 8 * 1024).await;
    let listing = registry.list("/large/").await.expect("answers");
    assert_eq!(listing.entries.len(), KEYS);
    assert!(listing.entries.iter().all(|entry| entry.value.len() == 8 * 1024 && entry.revision <= last));
    assert!(listing.entries.is_sorted_by(|one, next| one.key < next.key), "in order, none twice");
    assert_eq!(listing.revision, last);
}

async fn a_list_goes_on_where_small_values_end_and_the_largest_begin(program: Program) {
    let etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    fill(&registry, "/mixed/1-small/", 1_000, 100).await;
    let last = fill(&registry, "/mixed/2-largest/", 600, MAX_REGISTRY_VALUE_BYTES).await;
    let listing = registry.list("/mixed/").await.expect("answers");
    assert_eq!((listing.entries.len(), listing.revision), (1_600, last));
    assert!(listing.entries.is_sorted_by(|one, next| one.key < next.key), "in order, none twice");
}

async fn the_largest_value_fits_two_hundred_times_into_one_page(program: Program) {
    let etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    fill(&registry, "/largest/", 201, MAX_REGISTRY_VALUE_BYTES).await;
    assert_eq!(registry.list("/largest/").await.expect("answers").entries.len(), 201);
}

async fn a_lease_that_ran_out_cannot_be_kept_alive_nor_written_with(program: Program) {
    let etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    let lease = registry.grant_lease(Duration::from_millis(200)).await.expect("granted");
    registry.keep_alive(lease).await.expect("it lives");
    registry.put("/leased", Expected::Absent, b"x".to_vec(), Some(lease)).await.expect("written");
    let is_gone = async || registry.get("/leased").await.expect("answers").0.is_none();
    wait_until("the lease's end", is_gone).await;
    assert_eq!(registry.keep_alive(lease).await, Err(RegistryError::LeaseEnded));
    let written = registry.put("/leased", Expected::Absent, b"x".to_vec(), Some(lease)).await;
    assert_eq!(written, Err(RegistryError::LeaseEnded));
    assert_eq!(registry.revoke_lease(lease).await, Ok(()), "it has ended, which is what was asked for");
}

async fn a_full_etcd_refuses_writes_with_its_reason_and_still_reads(program: Program) {
    let options = Options { arguments: vec!["--quota-backend-bytes=2000000".to_owned()], ..Options::default() };
    let etcd = Etcd::start_with(program, options).await;
    let registry = etcd.registry();
    let refused = within("a full etcd", try_fill(&registry, "/full/", 2_000, MAX_REGISTRY_VALUE_BYTES)).await;
    let Err(RegistryError::Unavailable(reason)) = refused else { panic!("2 MB hold no 32 MB: {refused:?}") };
    assert!(reason.contains("database space exceeded"), "{reason}");
    assert!(!registry.list("/full/").await.expect("reads go on").entries.is_empty());
}
