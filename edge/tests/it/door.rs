//! The one door of every connection: each of its steps at every kind of port, plain and with something that secures
//! connections in between.

mod bytes;
mod caps;
mod double;
mod drain;
mod flood;
mod guest;
mod handshake;
mod introduction;
mod place;
mod scheme;
mod shedding;

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

use edge::Config;
use futures_util::{FutureExt as _, StreamExt as _};

use double::Securing;
use place::Kind;

/// One row of the table that every suite goes through.
#[derive(Debug, Clone, Copy)]
struct Case {
    kind: Kind,
    securing: Securing,
}

// === impl Case ===

impl Case {
    /// Every kind of port with every way to secure it.
    fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().flat_map(|kind| Securing::ALL.map(|securing| Self { kind, securing }))
    }

    /// Lets the edge secure its connections as the case has it.
    fn configure(self, config: &mut Config) {
        config.secure = self.securing.secure();
    }
}

/// Runs `suite` for all cases, so many at once.
///
/// # Panics
/// If it fails for any; the message names each of them.
async fn in_each<C: Copy + fmt::Debug>(cases: impl IntoIterator<Item = C>, at_once: usize, suite: impl AsyncFn(C)) {
    let suite = &suite;
    let outcomes = futures_util::stream::iter(cases)
        .map(async |case| (case, AssertUnwindSafe(suite(case)).catch_unwind().await))
        .buffer_unordered(at_once)
        .collect::<Vec<_>>()
        .await;
    let count = outcomes.len();
    assert!(count > 0, "a table without a case");
    let failed = outcomes.into_iter().filter_map(|(case, outcome)| {
        let panic = outcome.err()?;
        Some(format!("{case:?}: {}", message(panic.as_ref())))
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{} of {count} cases failed:\n{}", failed.len(), failed.join("\n"));
}

/// What a panic has said.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

/// A client that is not the one that asks the worker API.
fn client(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 9, number])
}

#[tokio::test]
#[should_panic(expected = "1 of 2 cases failed:\n\"odd\": it is odd")]
async fn a_case_that_fails_is_named() {
    in_each(["even", "odd"], 1, async |case| assert!(case == "even", "it is {case}")).await;
}
