//! Joins what a watch brings.
//!
//! Invariant: of several changes to one key in a batch the last one counts, and the order of those that count stays.

use std::collections::HashSet;

use entities::registry::{Batch, Event, Watch};

/// Changes that are applied together at most; more would make the first of them wait.
pub(super) const MAX_BATCH_EVENTS: usize = 500;

/// The next batch, joined with those that are here already.
pub(super) async fn next_batch(watch: &mut Watch) -> Option<Batch> {
    let mut joined = watch.next().await?;
    while joined.events.len() < MAX_BATCH_EVENTS {
        let Some(more) = watch.next_ready() else { break };
        joined.revision = more.revision;
        joined.events.extend(more.events);
    }
    Some(joined)
}

/// Of several changes to one key only the last one counts.
pub(super) fn last_of_each_key(events: Vec<Event>) -> Vec<Event> {
    let mut seen = HashSet::new();
    let mut last: Vec<Event> = events.into_iter().rev().filter(|event| seen.insert(event.key().to_owned())).collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use entities::ids::Revision;
    use entities::registry::Entry;

    use super::*;

    #[test]
    fn the_last_write_of_each_key_wins_and_order_stays() {
        let put = |key: &str, revision| {
            Event::Put(Entry { key: key.to_owned(), value: Vec::new(), revision: Revision(revision) })
        };
        let gone = Event::Deleted { key: "a".to_owned(), revision: Revision(4) };
        let events = vec![put("a", 1), put("b", 2), put("c", 3), gone.clone(), put("b", 5)];
        assert_eq!(last_of_each_key(events), [put("c", 3), gone, put("b", 5)]);
    }
}
