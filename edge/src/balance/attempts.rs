//! One request's, or one connection's, tries to reach a target.
//!
//! Invariant: at most [`MAX_ATTEMPTS`] attempts to connect, never two at one address; each that fails is counted and
//! logged here.

use std::fmt::Display;
use std::net::SocketAddr;

use entities::ids::CircuitKey;

use super::{Balancer, TargetPeer, Tried};
use crate::metrics::{Metrics, TargetFault};

/// How often one request may try to connect: with the time limit of each attempt, the longest that a client waits.
pub(crate) const MAX_ATTEMPTS: usize = 3;

/// What has been tried.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    made: usize,
    /// Targets without an untried address.
    tried: Tried,
    /// The target of the last attempt, and which of its addresses that was.
    last: Option<(usize, usize)>,
    /// Whether that attempt failed and the target has more addresses.
    has_more_addresses: bool,
}

/// Where to connect.
pub(crate) struct Place<'a> {
    /// The target.
    pub(crate) target: &'a TargetPeer,
    /// One of its addresses.
    pub(crate) address: SocketAddr,
}

// === impl Attempts ===

impl Attempts {
    /// Where the next attempt goes; `None` if nothing is left to try.
    pub(crate) async fn next<'a>(
        &mut self,
        key: &CircuitKey,
        balancer: &'a Balancer,
        metrics: &Metrics,
    ) -> Option<Place<'a>> {
        while self.made < MAX_ATTEMPTS {
            let next_address = self.last.filter(|_| std::mem::take(&mut self.has_more_addresses));
            let (target, number) = match next_address {
                Some((index, address)) => (balancer.get(index), address + 1),
                None => (balancer.choose(self.tried), 0),
            };
            let target = target?;
            self.made += 1;
            self.last = Some((target.index(), number));
            match target.address(number).await {
                Ok(address) => return Some(Place { target, address }),
                Err(error) => {
                    self.tried.add(target.index());
                    metrics.count_target_fault(TargetFault::Resolve);
                    tracing::warn!(
                        %key, target = %target.target(), %error, fault = "target", "target cannot be found"
                    );
                }
            }
        }
        None
    }

    /// The attempt to connect has failed: nothing was sent, so another target may be tried; the answer says whether
    /// there is one.
    pub(crate) fn failed(
        &mut self,
        key: &CircuitKey,
        balancer: &Balancer,
        metrics: &Metrics,
        is_timeout: bool,
        error: &dyn Display,
    ) -> bool {
        let fault = if is_timeout { TargetFault::ConnectTimeout } else { TargetFault::Connect };
        metrics.count_target_fault(fault);
        let Some((index, number)) = self.last else { return false };
        let target = balancer.get(index);
        self.has_more_addresses = target.is_some_and(|target| number + 1 < target.addresses());
        if !self.has_more_addresses {
            self.tried.add(index);
        }
        let has_next = self.has_more_addresses || balancer.has_untried(self.tried);
        let can_retry = self.made < MAX_ATTEMPTS && has_next;
        tracing::warn!(
            %key,
            target = target.map(|target| tracing::field::display(target.target())),
            fault = "target",
            reason = fault.as_str(),
            attempt = self.made,
            can_retry,
            %error,
            "target cannot be reached"
        );
        can_retry
    }
}
