//! Collects the log lines of records, as they reach whoever reads the log.
//!
//! Invariant: lines of clients that nobody watches are not kept, because other tests of this binary end a lot as well.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines by the address of their client.
static LINES: Mutex<Option<HashMap<String, Vec<Line>>>> = Mutex::new(None);

/// One line: its fields, and its message as one of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(BTreeMap<&'static str, String>);

/// The layer that keeps them.
struct Keeper;

/// An address of this machine that no other client in this process has; what ends for it is kept from now on.
pub(super) fn watch() -> IpAddr {
    static INSTALLED: Once = Once::new();
    static NEXT: AtomicU16 = AtomicU16::new(1);
    INSTALLED.call_once(|| {
        // The room and not only its log: what an error says is noted where the record is filled.
        let records = Targets::new().with_target("edge::record", Level::DEBUG);
        tracing_subscriber::registry().with(Keeper.with_filter(records)).init();
    });
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let client = IpAddr::from([127, 77, high, low]);
    let mut lines = LINES.lock().expect("no test thread panics with it");
    lines.get_or_insert_default().insert(client.to_string(), Vec::new());
    client
}

// === impl Line ===

impl Line {
    /// The records of this client so far.
    pub(super) fn all_of(client: IpAddr) -> Vec<Self> {
        let mut lines = Self::whole_log_of(client);
        lines.retain(|line| line.get("ended_by").is_some());
        lines
    }

    /// The same with the lines that say that something was turned away.
    pub(super) fn whole_log_of(client: IpAddr) -> Vec<Self> {
        let lines = LINES.lock().expect("no test thread panics with it");
        lines.as_ref().and_then(|lines| lines.get(&client.to_string())).cloned().unwrap_or_default()
    }

    /// A field, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `protocol method path status circuit ended_by fault to_target/to_client retries`; `-` for what is not there.
    pub(super) fn row(&self) -> String {
        let word = |name| self.get(name).unwrap_or("-");
        let circuit = word("key").trim_end_matches(":web");
        let words = ["protocol", "method", "path", "status"].map(word).join(" ");
        let bytes = format!("{}/{}", word("to_target"), word("to_client"));
        format!("{words} {circuit} {} {} {bytes} {}", word("ended_by"), word("fault"), word("retries"))
    }

    /// What holds for every line.
    pub(super) fn assert_sound(&self) {
        let is_relayed = matches!(self.get("protocol"), Some("upgraded" | "bytes"));
        assert_eq!(self.get("message"), Some(if is_relayed { "a relay ended" } else { "request" }));
        for name in ["request", "entrance", "client", "ms"] {
            assert!(self.get(name).is_some_and(|value| !value.is_empty()), "{name} in {self:?}");
        }
    }

    /// No field shows one of these.
    pub(super) fn assert_shows_none(&self, secrets: &[&str]) {
        for (name, value) in &self.0 {
            assert!(!secrets.iter().any(|secret| value.contains(secret)), "{name} shows a secret: {self:?}");
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

// === impl Keeper ===

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "edge::record::log" {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let client = line.get("client").unwrap_or_default().to_owned();
        let mut lines = LINES.lock().expect("no test thread panics with it");
        if let Some(kept) = lines.as_mut().and_then(|lines| lines.get_mut(&client)) {
            kept.push(line);
        }
    }
}
