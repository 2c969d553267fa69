//! Whatever happens to a watch on etcd, its reader is told: by an error, by events, or by its end.

use entities::ids::Revision;
use entities::limits::WATCH_QUEUE_BATCHES;
use entities::registry::{Batch, Expected, Registry, RegistryError, Swap, Watch};
use testkit::etcd::{Etcd, Options, Program};
use testkit::wait::within;

use crate::etcd_contract::fill;

testkit::on_each_etcd!(
    a_killed_etcd_ends_watches_and_its_return_is_noticed,
    a_stopped_etcd_ends_watches,
    a_watch_from_a_forgotten_revision_is_refused,
    a_watch_from_a_revision_that_an_emptied_etcd_has_not_reached_is_refused,
    a_catch_up_over_the_clients_limit_ends_the_watch_and_a_list_helps,
    a_reader_that_is_too_far_behind_loses_its_watch,
    a_quiet_watch_tells_how_far_it_is,
);

/// Every batch until the watch ends.
async fn until_end(watch: &mut Watch) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(batch) = within("the watch's end", watch.next()).await {
        batches.push(batch);
    }
    batches
}

async fn a_killed_etcd_ends_watches_and_its_return_is_noticed(program: Program) {
    let mut etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    let last = fill(&registry, "/kept/", 3, 10).await;
    let mut watch = registry.watch("/kept/", last.next()).await.expect("watches");
    etcd.kill();
    assert_eq!(until_end(&mut watch).await, []);
    assert!(matches!(registry.list("/kept/").await, Err(RegistryError::Unavailable(_))));

    etcd.restart().await;
    let listing = registry.list("/kept/").await.expect("it is back");
    assert_eq!((listing.entries.len(), listing.revision), (3, last), "what was written is kept");
    let mut watch = registry.watch("/kept/", last.next()).await.expect("watches");
    let more = fill(&registry, "/kept/more/", 1, 10).await;
    assert_eq!(within("a batch", watch.next()).await.expect("the watch goes on").revision, more);
}

async fn a_stopped_etcd_ends_watches(program: Program) {
    let mut etcd = Etcd::start(program).await;
    let mut watch = etcd.registry().watch("/", Revision(2)).await.expect("watches");
    etcd.stop().await;
    assert_eq!(until_end(&mut watch).await, []);
}

async fn a_watch_from_a_forgotten_revision_is_refused(program: Program) {
    let etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    let last = fill(&registry, "/old/", 20, 10).await;
    etcd.compact(last).await;
    let forgotten = Revision(last.0 - 1);
    assert_eq!(registry.watch("/old/", forgotten).await.err(), Some(RegistryError::Compacted(forgotten)));
    assert!(registry.watch("/old/", last).await.is_ok(), "the last one is kept");
    assert!(registry.watch("/old/", last.next()).await.is_ok());
}

async fn a_watch_from_a_revision_that_an_emptied_etcd_has_not_reached_is_refused(program: Program) {
    let mut etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    let last = fill(&registry, "/lost/", 20, 10).await;
    etcd.wipe().await;
    let refused = registry.watch("/lost/", last.next()).await;
    assert!(matches!(&refused, Err(RegistryError::Unavailable(reason)) if reason.contains("to come")), "{refused:?}");
    assert_eq!(registry.list("/lost/").await.expect("answers").entries, []);
}

async fn a_catch_up_over_the_clients_limit_ends_the_watch_and_a_list_helps(program: Program) {
    const KEYS: usize = 900;
    let etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    let before = registry.list("/late/").await.expect("answers").revision;
    fill(&registry, "/late/", KEYS, 8 * 1024).await;
    match registry.watch("/late/", before.next()).await {
        Ok(mut watch) => {
            let delivered: usize = until_end(&mut watch).await.iter().map(|batch| batch.events.len()).sum();
            assert!(delivered < KEYS, "it ended before it had caught up");
        }
        Err(error) => assert!(matches!(error, RegistryError::Unavailable(_)), "{error}"),
    }
    let listing = registry.list("/late/").await.expect("answers");
    assert_eq!(listing.entries.len(), KEYS);
    assert!(registry.watch("/late/", listing.revision.next()).await.is_ok());
}

async fn a_reader_that_is_too_far_behind_loses_its_watch(program: Program) {
    let etcd = Etcd::start(program).await;
    let registry = etcd.registry();
    let mut watch = registry.watch("/", Revision(2)).await.expect("watches");
    let mut last = Revision::default();
    // One after the other: each is a message of its own.
    for _ in 0..WATCH_QUEUE_BATCHES + 100 {
        let expected = if last == Revision::default() { Expected::Absent } else { Expected::At(last) };
        match registry.put("/a", expected, b"x".to_vec(), None).await.expect("answers") {
            Swap::Done(revision) => last = revision,
            Swap::Conflict => panic!("nobody else writes"),
        }
    }
    let batches = until_end(&mut watch).await;
    assert_eq!(batches.len(), WATCH_QUEUE_BATCHES, "what fitted is delivered, then the watch ends");
}

async fn a_quiet_watch_tells_how_far_it_is(program: Program) {
    let options = Options { arguments: vec![program.progress_argument("100ms")], ..Options::default() };
    let etcd = Etcd::start_with(program, options).await;
    let registry = etcd.registry();
    let mut watch = registry.watch("/watched/", Revision(2)).await.expect("watches");
    let elsewhere = fill(&registry, "/elsewhere/", 3, 10).await;
    loop {
        let batch = within("progress", watch.next()).await.expect("the watch goes on");
        assert_eq!(batch.events, [], "nothing happened under the prefix");
        if batch.revision == elsewhere {
            return;
        }
    }
}
