//! Chooses the target of a request, and another one when it cannot be reached.
//!
//! Invariant: after something of a request was sent no other target gets it; the same one may, over a new connection, if
//! nothing was lost by that: the method is idempotent, and the old connection had been used before.

use std::io;
use std::sync::Arc;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;

use super::EdgeProxy;
use super::context::RequestContext;
use crate::descriptors;

// === impl EdgeProxy ===

impl EdgeProxy {
    /// Where the next attempt goes.
    pub(super) async fn choose_target(&self, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let circuit = match &context.circuit {
            Some((circuit, _)) => Arc::clone(circuit),
            None => return Error::e_explain(ErrorType::InternalError, "a request without a circuit is forwarded"),
        };
        match context.attempts.next(&circuit.key, &circuit.balancer, &self.metrics).await {
            Some(place) => Ok(place.target.peer(place.address)),
            None => Err(Error::explain(ErrorType::ConnectError, "no target is left to try").into_up()),
        }
    }

    /// An attempt to connect has failed.
    pub(super) fn try_next_target(&self, context: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
        let is_timeout = *error.etype() == ErrorType::ConnectTimedout;
        let Some((circuit, _)) = &context.circuit else { return error };
        if error.root_cause().downcast_ref::<io::Error>().is_some_and(descriptors::are_used_up) {
            error.set_retry(false);
            error.etype = ErrorType::InternalError;
            return error;
        }
        let can_retry = context.attempts.failed(&circuit.key, &circuit.balancer, &self.metrics, is_timeout, &error);
        error.set_retry(can_retry);
        // The source is what the answer depends on.
        error.esource = ErrorSource::Upstream;
        error
    }
}

/// A target broke off after something was sent.
pub(super) fn broke_off(
    peer: &HttpPeer,
    session: &mut Session,
    error: Box<Error>,
    context: &RequestContext,
    is_reused: bool,
) -> Box<Error> {
    let mut error = error.more_context(format!("Peer: {peer}"));
    let answer = context.connection.as_ref().map(|busy| &busy.connection.answer);
    answer.inspect(|answer| answer.stop());
    let is_overdue = answer.is_some_and(|answer| answer.is_overdue());
    if is_overdue {
        // The edge has ended the wait itself.
        error.etype = ErrorType::ReadTimedout;
        error.esource = ErrorSource::Upstream;
    }
    let may_retry =
        !is_overdue && session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
    if may_retry {
        error.retry.decide_reuse(is_reused);
    } else {
        error.set_retry(false);
    }
    error
}
