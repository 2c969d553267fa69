//! A watch on etcd.
//!
//! Invariant: whatever ends the stream, a panic of the client crate included, ends the watch; and a watch that is
//! given out is one that etcd has accepted and that starts at a revision which etcd has reached and still keeps.

use etcd_rs::{
    Client, EventType, KeyRange, KeyValueOp, RangeRequest, WatchCanceler, WatchCreateRequest, WatchInbound, WatchOp,
    WatchStream,
};
use tokio::sync::mpsc;

use super::failure::Failure;
use super::{entry, to_etcd, to_revision};
use crate::ids::Revision;
use crate::limits::WATCH_QUEUE_BATCHES;
use crate::registry::{Batch, Event, Watch};

/// A stream that nobody reads yet.
pub(super) struct Opened {
    stream: WatchStream,
    /// Dropping it would close our half of the stream, upon which etcd ends the watch.
    canceler: WatchCanceler,
}

/// Asks etcd for every change under `prefix` from `from` on.
pub(super) async fn open(client: Client, prefix: String, from: Revision) -> Result<Opened, Failure> {
    let from = to_etcd(from).ok_or_else(|| Failure::refused("there is no such revision"))?.max(1);
    let request = WatchCreateRequest::create(KeyRange::prefix(prefix.as_str())).start_revision(from).progress_notify();
    let (stream, canceler) = client.watch(request).await?;
    check(&client, &prefix, from).await?;
    Ok(Opened { stream, canceler })
}

/// Whether the watch that has just been asked for can deliver anything.
///
/// etcd answers a watch that it will not serve (no permission, unknown token) by "created" and "cancelled" in one
/// message; etcd-rs drops the second half, and nothing would ever come. Reading the same range with the same token
/// after that fails for the same reasons, and tells where etcd is: after it was restored or emptied, a watch from
/// `from` would silently miss what is written until it is there again.
async fn check(client: &Client, prefix: &str, from: i64) -> Result<(), Failure> {
    let range = || RangeRequest::new(KeyRange::prefix(prefix)).limit(1);
    let now = client.get(range()).await?.header.revision();
    if from > now.saturating_add(1) {
        return Err(Failure::refused(format!("revision {from} is to come: etcd is at {now}, so it is another one")));
    }
    if from > now {
        return Ok(());
    }
    client.get(range().revision(from)).await?;
    Ok(())
}

impl Opened {
    /// Passes on what comes, until either side ends.
    pub(super) fn run(self) -> Watch {
        let (queue, receiver) = mpsc::channel(WATCH_QUEUE_BATCHES);
        tokio::spawn(self.pass_on(queue));
        Watch::new(receiver)
    }

    async fn pass_on(self, queue: mpsc::Sender<Batch>) {
        let Self { mut stream, canceler: _canceler } = self;
        loop {
            let message = tokio::select! {
                message = stream.inbound() => message,
                () = queue.closed() => return,
            };
            // Compaction, a broken connection and a message over the client's limit all end here: the reader lists
            // again.
            let WatchInbound::Ready(response) = message else { return };
            // A reader that is too far behind loses its watch and lists again; the queue never grows.
            if queue.try_send(to_batch(response.header.revision(), response.events)).is_err() {
                return;
            }
        }
    }
}

/// etcd sends whole revisions, unless it is asked for fragments, which etcd-rs never does.
///
/// A message with events may come from a watch that is still catching up: etcd is further on then, and the last event
/// says how far the watch is. A message without events says that the watch has caught up with etcd.
fn to_batch(etcd_is_at: i64, events: Vec<etcd_rs::Event>) -> Batch {
    let revision = events.last().map_or(etcd_is_at, |event| event.kv.mod_revision);
    Batch { revision: to_revision(revision), events: events.into_iter().filter_map(to_event).collect() }
}

fn to_event(event: etcd_rs::Event) -> Option<Event> {
    match event.event_type {
        EventType::Put => entry(event.kv).map(Event::Put),
        EventType::Delete => {
            let revision = to_revision(event.kv.mod_revision);
            String::from_utf8(event.kv.key).ok().map(|key| Event::Deleted { key, revision })
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_rs::KeyValue;

    use super::*;
    use crate::registry::Entry;

    fn event(event_type: EventType, key: &[u8], mod_revision: i64) -> etcd_rs::Event {
        let kv = KeyValue { key: key.to_vec(), value: b"x".to_vec(), mod_revision, ..KeyValue::default() };
        etcd_rs::Event { event_type, kv, prev_kv: None }
    }

    #[test]
    fn a_batch_covers_what_it_holds_and_not_where_etcd_is() {
        let batch = to_batch(90, vec![event(EventType::Put, b"/a", 7), event(EventType::Delete, b"/b", 8)]);
        let put = Event::Put(Entry { key: "/a".to_owned(), value: b"x".to_vec(), revision: Revision(7) });
        let deleted = Event::Deleted { key: "/b".to_owned(), revision: Revision(8) };
        assert_eq!(batch, Batch { revision: Revision(8), events: vec![put, deleted] });
    }

    #[test]
    fn a_message_without_events_says_how_far_the_watch_is() {
        assert_eq!(to_batch(90, Vec::new()), Batch { revision: Revision(90), events: Vec::new() });
    }

    #[test]
    fn keys_that_are_no_text_are_none_of_ours_but_count() {
        let batch = to_batch(90, vec![event(EventType::Put, b"/\xff", 7), event(EventType::Delete, b"/\xff", 8)]);
        assert_eq!(batch, Batch { revision: Revision(8), events: Vec::new() });
    }
}
