//! How many requests a circuit takes, and how many bytes it carries.
//!
//! Invariant: a circuit without a rule costs a null pointer, and what is remembered of clients has a limit for the whole
//! process ([`clients::MAX_CLIENTS`]).

mod bandwidth;
mod clients;
mod pace;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use entities::rate::{Per, RateLimit};

pub(crate) use bandwidth::{Bandwidth, Booking, Way};
use clients::{Clients, Key};
use pace::Pace;

/// Numbers of rules, unique in the process.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// What all rules remember of their clients.
static CLIENTS: LazyLock<Clients> = LazyLock::new(Clients::default);

/// Time is counted from here.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Carries out the rule of one circuit, across its generations.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    rule: RateLimit,
    pace: Pace,
    /// Tells its clients from those of other rules.
    number: u64,
    /// When the next request is due, if all clients share the rate.
    due_ns: AtomicU64,
}

/// How long until the next request is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    ns: u64,
}

// === impl RateLimiter ===

impl RateLimiter {
    /// Carries out `rule`; if that is the one of `before`, goes on counting there.
    pub(crate) fn of(rule: Option<RateLimit>, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let rule = rule?;
        if let Some(before) = before.filter(|before| before.rule == rule) {
            return Some(Arc::clone(before));
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Self { rule, pace: Pace::of(&rule), number, due_ns: AtomicU64::new(0) }))
    }

    /// Takes a request of `client`, or says when the next one is taken.
    pub(crate) fn take(&self, client: IpAddr) -> Result<(), Wait> {
        let now_ns = u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.take_at(&CLIENTS, client, now_ns)
    }

    fn take_at(&self, clients: &Clients, client: IpAddr, now_ns: u64) -> Result<(), Wait> {
        let taken = match self.rule.per {
            Per::Client => clients.update(Key::new(self.number, client), |due_ns| self.pace.take(due_ns, now_ns)),
            Per::Circuit => {
                let mut outcome = Ok(0);
                let _ = self.due_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due_ns| {
                    outcome = self.pace.take(due_ns, now_ns);
                    outcome.ok()
                });
                outcome.map(drop)
            }
        };
        taken.map_err(|ns| Wait { ns })
    }
}

// === impl Wait ===

impl Wait {
    /// In whole seconds, at least one (RFC 9110 §10.2.3).
    pub(crate) fn seconds(self) -> u32 {
        u32::try_from(self.ns.div_ceil(1_000_000_000).max(1)).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "over the rate, the next one in {} s", self.seconds())
    }
}

#[cfg(test)]
mod tests {
    use entities::rate::RequestRate;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter(requests_per_s: f64, burst: u32, per: Per) -> Arc<RateLimiter> {
        let requests_per_s = RequestRate::new(requests_per_s).expect("a rate");
        RateLimiter::of(Some(RateLimit { requests_per_s, burst, per }), None).expect("a rule")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_client_has_a_rate_of_its_own_or_all_share_one() {
        let clients = Clients::default();
        let own = limiter(1.0, 2, Per::Client);
        for client in ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.3"] {
            let taken: Vec<bool> = (0..3).map(|_| own.take_at(&clients, ip(client), SECOND).is_ok()).collect();
            assert_eq!(taken, [true, true, false], "{client}");
        }
        assert!(own.take_at(&clients, ip("10.0.0.3"), SECOND).is_err(), "the same client, however it is written");
        let shared = limiter(1.0, 2, Per::Circuit);
        let taken =
            ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|client| shared.take_at(&clients, ip(client), SECOND).is_ok());
        assert_eq!(taken, [true, true, false]);
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let (clients, limiter) = (Clients::default(), limiter(1.0, 1, Per::Client));
        assert!(limiter.take_at(&clients, ip("2001:db8:0:1::1"), 0).is_ok());
        assert!(limiter.take_at(&clients, ip("2001:db8:0:1:ffff::2"), 0).is_err());
        assert!(limiter.take_at(&clients, ip("2001:db8:0:2::1"), 0).is_ok());
    }

    #[test]
    fn the_wait_is_as_long_as_it_says() {
        let (clients, limiter) = (Clients::default(), limiter(0.4, 1, Per::Client));
        let client = ip("10.0.0.1");
        assert_eq!(limiter.take_at(&clients, client, 0), Ok(()));
        let wait = limiter.take_at(&clients, client, SECOND / 2).expect_err("over the rate");
        assert_eq!(wait.seconds(), 2);
        assert_eq!(limiter.take_at(&clients, client, SECOND).expect_err("over the rate").seconds(), 2, "rounded up");
        assert!(limiter.take_at(&clients, client, SECOND / 2 + 2 * SECOND - 1).is_err());
        assert!(limiter.take_at(&clients, client, SECOND / 2 + 2 * SECOND).is_ok());
        let short = self::limiter(1_000.0, 1, Per::Circuit);
        assert!(short.take_at(&clients, client, 0).is_ok());
        assert_eq!(short.take_at(&clients, client, 0).expect_err("over the rate").seconds(), 1);
    }

    #[test]
    fn counts_survive_a_change_that_leaves_the_rule_alone() {
        let clients = Clients::default();
        let before = limiter(1.0, 1, Per::Client);
        assert!(before.take_at(&clients, ip("10.0.0.1"), 0).is_ok());
        let after = RateLimiter::of(Some(before.rule), Some(&before)).expect("a rule");
        assert!(after.take_at(&clients, ip("10.0.0.1"), 0).is_err());
        let other = RateLimiter::of(Some(RateLimit { burst: 2, ..before.rule }), Some(&before)).expect("a rule");
        assert!(other.take_at(&clients, ip("10.0.0.1"), 0).is_ok());
        assert!(RateLimiter::of(None, Some(&before)).is_none());
    }
}
