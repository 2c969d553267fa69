//! The in-process registry keeps the contract of every registry, and its own bounds.

use entities::ids::Revision;
use entities::limits::{HISTORY_EVENTS, WATCH_QUEUE_BATCHES};
use entities::registry::memory::MemoryRegistry;
use entities::registry::{Expected, Registry, RegistryError, Swap};

#[tokio::test]
async fn the_in_process_registry_keeps_the_contract() {
    testkit::registry_contract::check(&MemoryRegistry::new()).await;
}

async fn write(registry: &MemoryRegistry, times: usize) -> Revision {
    let mut last = Revision::default();
    for _ in 0..times {
        let (entry, _) = registry.get("/a").await.expect("in-process");
        let expected = entry.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        match registry.put("/a", expected, b"x".to_vec(), None).await.expect("in-process") {
            Swap::Done(revision) => last = revision,
            Swap::Conflict => panic!("nobody else writes"),
        }
    }
    last
}

#[tokio::test]
async fn a_reader_that_is_too_far_behind_loses_its_watch_instead_of_memory() {
    let registry = MemoryRegistry::new();
    let mut watch = registry.watch("/", Revision(1)).await.expect("watches");
    write(&registry, WATCH_QUEUE_BATCHES + 1).await;
    let mut received = 0;
    while watch.next().await.is_some() {
        received += 1;
    }
    assert_eq!(received, WATCH_QUEUE_BATCHES, "what fitted is delivered, then the watch ends");
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_refused() {
    let registry = MemoryRegistry::new();
    let last = write(&registry, HISTORY_EVENTS + 2).await;
    assert_eq!(registry.watch("/", Revision(1)).await.err(), Some(RegistryError::Compacted(Revision(1))));
    assert!(registry.watch("/", last).await.is_ok());
}

#[tokio::test]
async fn ended_watches_end_for_every_reader() {
    let registry = MemoryRegistry::new();
    let mut watch = registry.watch("/", Revision(1)).await.expect("watches");
    registry.end_watches();
    assert!(watch.next().await.is_none());
}
