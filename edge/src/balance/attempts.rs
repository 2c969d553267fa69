//! One request's, or one connection's, tries to reach a target.
//!
//! Invariant: at most as many attempts as the circuit says and none that begins later than [`RETRY_TIME`] after the first,
//! never two at one address; each that fails is counted and logged here.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use entities::ids::CircuitKey;
use tokio::time::Instant;

use super::faults::{Retry, TargetFault};
use super::mask::Mask;
use super::{Balancer, Hold, TargetPeer};
use crate::address::AddressError;
use crate::request_id::RequestId;
use crate::words::Words as _;

/// How long after its first attempt a request may begin another one: a client that has waited so long learns that it did not
/// work rather than wait for more.
const RETRY_TIME: Duration = Duration::from_secs(10);

/// What has been tried.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// The request, for logs; byte streams have none.
    id: Option<RequestId>,
    made: u8,
    /// Targets without an untried address.
    tried: Mask,
    /// The target of the last attempt, and which of its addresses that was.
    last: Option<(usize, usize)>,
    /// Whether that attempt failed and the target has more addresses.
    has_more_addresses: bool,
    /// Whether it failed because a target that has never answered takes no connections.
    is_starting: bool,
    /// The target that the client was with before.
    preferred: Option<usize>,
    /// When no further attempt begins.
    until: Option<Instant>,
    /// Counts the request at the target of the last attempt.
    hold: Option<Hold>,
}

/// Where to connect.
pub(crate) struct Place<'a> {
    /// The target.
    pub(crate) target: &'a TargetPeer,
    /// One of its addresses.
    pub(crate) address: SocketAddr,
    /// Which attempt this is, counted from 1.
    pub(crate) number: u8,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoConnection {
    /// Nothing answered in time.
    TimedOut,
    /// The target's host answered that nothing listens there.
    Refused,
    /// Anything else.
    Failed,
}

/// How a target broke off after something was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenOff {
    /// The connection had served requests before: the target may have closed it before this one came.
    Reused,
    /// The connection was new.
    Fresh,
}

// === impl Attempts ===

impl Attempts {
    /// Nothing has been tried for this request.
    pub(crate) fn of(id: RequestId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// Prefers the target that the client was with before.
    pub(crate) fn prefer(&mut self, index: Option<usize>) {
        self.preferred = index;
    }

    /// The target that the client was with before.
    pub(crate) fn preferred(&self) -> Option<usize> {
        self.preferred
    }

    /// The target of the last attempt.
    pub(crate) fn target(&self) -> Option<usize> {
        self.last.map(|(index, _)| index)
    }

    /// Whether nothing has been tried: there was nothing to choose.
    pub(crate) fn is_untried(&self) -> bool {
        self.made == 0
    }

    /// Whether it came to nothing because an application is still starting.
    pub(crate) fn is_starting(&self) -> bool {
        self.is_starting
    }

    /// Counts the request at its target for longer than the attempts last.
    pub(crate) fn take_hold(&mut self) -> Option<Hold> {
        self.hold.take()
    }

    /// Where the next attempt goes; `None` if nothing is left to try.
    pub(crate) async fn next<'a>(&mut self, key: &CircuitKey, balancer: &'a Balancer) -> Option<Place<'a>> {
        while self.may_go_on(balancer) {
            let next_address = self.last.filter(|_| std::mem::take(&mut self.has_more_addresses));
            let (target, number) = match next_address {
                Some((index, address)) => (balancer.get(index)?, address + 1),
                None => {
                    // Before the choice: what this request held of another target must not count against it.
                    self.hold = None;
                    let chosen = balancer.choose(self.tried, self.preferred)?;
                    self.hold = chosen.hold;
                    (chosen.target, 0)
                }
            };
            if self.made == 0
                && let Some(budget) = &balancer.budget
            {
                budget.earn();
            }
            self.made += 1;
            // What an earlier attempt met says nothing about this one.
            self.is_starting = false;
            self.last = Some((target.index(), number));
            match target.address(number, &balancer.context.egress).await {
                Ok(address) => return Some(Place { target, address, number: self.made }),
                Err(error) => {
                    self.tried.add(target.index());
                    let fault = match error {
                        AddressError::Forbidden(_) => TargetFault::Forbidden,
                        _ => TargetFault::Resolve,
                    };
                    balancer.context.metrics.faults.inc(fault);
                    tracing::warn!(
                        request = self.id.as_ref().map(tracing::field::display),
                        %key, target = %target.target(), %error, fault = "target", "there is no way to a target"
                    );
                }
            }
        }
        None
    }

    fn may_go_on(&mut self, balancer: &Balancer) -> bool {
        if self.made >= balancer.retries.attempts {
            return false;
        }
        // The first attempt is what nearly every request has: it asks for no time.
        match (self.made, self.until) {
            (0, _) => true,
            (_, None) => {
                self.until = Some(Instant::now() + RETRY_TIME);
                true
            }
            (_, Some(until)) => Instant::now() < until,
        }
    }

    /// The target of the last attempt works.
    pub(crate) fn succeeded(&self, balancer: &Balancer) {
        if let Some(target) = self.target().and_then(|index| balancer.get(index)) {
            target.succeeded();
        }
    }

    /// The attempt to connect has failed: nothing was sent, so another target may be tried; the answer says whether
    /// there is one.
    pub(crate) fn failed(
        &mut self,
        key: &CircuitKey,
        balancer: &Balancer,
        why: NoConnection,
        error: &dyn Display,
    ) -> bool {
        let is_timeout = why == NoConnection::TimedOut;
        let fault = if is_timeout { TargetFault::ConnectTimeout } else { TargetFault::Connect };
        balancer.context.metrics.faults.inc(fault);
        let Some((index, number)) = self.last else { return false };
        let target = balancer.get(index);
        if let Some(target) = target {
            balancer.failed(target);
            self.is_starting = why == NoConnection::Refused && !target.stats.has_answered();
        }
        self.has_more_addresses = target.is_some_and(|target| number + 1 < target.addresses());
        if !self.has_more_addresses {
            self.tried.add(index);
        }
        let has_next = self.has_more_addresses || balancer.has_untried(self.tried);
        let can_retry = self.may_go_on(balancer) && has_next;
        if can_retry {
            balancer.context.metrics.retries.inc(Retry::Connect);
        }
        self.log(key, target, fault, can_retry, error, "target cannot be reached");
        can_retry
    }

    /// The target broke off after something of an idempotent request was sent and before its answer began; the answer says
    /// whether the request may be sent once more.
    pub(crate) fn broke_off(
        &mut self,
        key: &CircuitKey,
        balancer: &Balancer,
        how: BrokenOff,
        error: &dyn Display,
    ) -> bool {
        let Some((index, _)) = self.last else { return false };
        let target = balancer.get(index);
        if how == BrokenOff::Reused {
            // Pingora has its own limit for these; the target may well be there.
            self.made = self.made.saturating_sub(1);
            balancer.context.metrics.retries.inc(Retry::Reused);
            return true;
        }
        self.tried.add(index);
        // Without a budget the circuit has not allowed it.
        let Some(budget) = &balancer.budget else { return false };
        let may = self.may_go_on(balancer) && balancer.has_untried(self.tried);
        let is_paid = may && budget.spend();
        if is_paid {
            balancer.context.metrics.retries.inc(Retry::Sent);
        } else if may {
            balancer.context.metrics.retries.inc(Retry::Unpaid);
        }
        if is_paid {
            balancer.context.metrics.faults.inc(TargetFault::Broken);
            self.log(key, target, TargetFault::Broken, true, error, "target broke off");
        }
        is_paid
    }

    /// The last target broke off, whatever comes of the request.
    pub(crate) fn note_broken(&self, balancer: &Balancer) {
        if let Some(target) = self.target().and_then(|index| balancer.get(index)) {
            balancer.failed(target);
        }
    }

    fn log(
        &self,
        key: &CircuitKey,
        target: Option<&TargetPeer>,
        fault: TargetFault,
        can_retry: bool,
        error: &dyn Display,
        what: &'static str,
    ) {
        tracing::warn!(
            request = self.id.as_ref().map(tracing::field::display),
            %key,
            target = target.map(|target| tracing::field::display(target.target())),
            fault = "target",
            reason = fault.as_str(),
            attempt = self.made,
            can_retry,
            %error,
            "{what}"
        );
    }
}
