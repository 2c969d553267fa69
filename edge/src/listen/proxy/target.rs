//! Chooses the target of a request, and another one when it cannot be reached.
//!
//! Invariant: at most [`MAX_ATTEMPTS`] attempts to connect, never two at one address, and none after something was
//! sent.

use std::sync::Arc;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};

use super::EdgeProxy;
use super::context::RequestContext;
use crate::balance::Tried;
use crate::metrics::TargetFault;

/// How often a request may try to connect: with the time limit of each attempt, the longest that a client waits.
pub(crate) const MAX_ATTEMPTS: usize = 3;

/// What a request has tried.
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

// === impl EdgeProxy ===

impl EdgeProxy {
    /// Where the next attempt goes.
    pub(super) async fn choose_target(&self, is_upgrade: bool, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let circuit = match &context.circuit {
            Some((circuit, _)) => Arc::clone(circuit),
            None => return Error::e_explain(ErrorType::InternalError, "a request without a circuit is forwarded"),
        };
        let attempts = &mut context.attempts;
        while attempts.made < MAX_ATTEMPTS {
            let next_address = attempts.last.filter(|_| std::mem::take(&mut attempts.has_more_addresses));
            let (target, address) = match next_address {
                Some((index, address)) => (circuit.balancer.get(index), address + 1),
                None => (circuit.balancer.choose(attempts.tried), 0),
            };
            let Some(target) = target else { break };
            attempts.made += 1;
            attempts.last = Some((target.index(), address));
            match target.peer(address, is_upgrade).await {
                Ok(peer) => return Ok(peer),
                Err(error) => {
                    attempts.tried.add(target.index());
                    self.metrics.count_target_fault(TargetFault::Resolve);
                    tracing::warn!(
                        key = %circuit.key, target = %target.target(), %error, fault = "target",
                        "target cannot be found"
                    );
                }
            }
        }
        Err(Error::explain(ErrorType::ConnectError, "no target is left to try").into_up())
    }

    /// An attempt to connect has failed: nothing was sent, so another target may get the request.
    pub(super) fn try_next_target(&self, context: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
        let is_timeout = *error.etype() == ErrorType::ConnectTimedout;
        let fault = if is_timeout { TargetFault::ConnectTimeout } else { TargetFault::Connect };
        self.metrics.count_target_fault(fault);
        let Some((circuit, _)) = &context.circuit else { return error };
        let attempts = &mut context.attempts;
        let Some((index, address)) = attempts.last else { return error };
        let target = circuit.balancer.get(index);
        attempts.has_more_addresses = target.is_some_and(|target| address + 1 < target.addresses());
        if !attempts.has_more_addresses {
            attempts.tried.add(index);
        }
        let has_next = attempts.has_more_addresses || circuit.balancer.has_untried(attempts.tried);
        let can_retry = attempts.made < MAX_ATTEMPTS && has_next;
        tracing::warn!(
            key = %circuit.key,
            target = target.map(|target| tracing::field::display(target.target())),
            fault = "target",
            reason = fault.as_str(),
            attempt = attempts.made,
            can_retry,
            %error,
            "target cannot be reached"
        );
        error.set_retry(can_retry);
        // The source is what the answer depends on.
        error.esource = ErrorSource::Upstream;
        error
    }
}
