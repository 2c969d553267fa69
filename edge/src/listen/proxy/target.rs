//! Chooses the target of a request, and another one when it cannot be reached.
//!
//! Invariant: no other target gets a request after something of it was sent.

use std::sync::Arc;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};

use super::EdgeProxy;
use super::context::RequestContext;

// === impl EdgeProxy ===

impl EdgeProxy {
    /// Where the next attempt goes.
    pub(super) async fn choose_target(&self, is_upgrade: bool, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let circuit = match &context.circuit {
            Some((circuit, _)) => Arc::clone(circuit),
            None => return Error::e_explain(ErrorType::InternalError, "a request without a circuit is forwarded"),
        };
        match context.attempts.next(&circuit.key, &circuit.balancer, &self.metrics).await {
            Some(place) => Ok(place.target.peer(place.address, is_upgrade)),
            None => Err(Error::explain(ErrorType::ConnectError, "no target is left to try").into_up()),
        }
    }

    /// An attempt to connect has failed.
    pub(super) fn try_next_target(&self, context: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
        let is_timeout = *error.etype() == ErrorType::ConnectTimedout;
        let Some((circuit, _)) = &context.circuit else { return error };
        let can_retry = context.attempts.failed(&circuit.key, &circuit.balancer, &self.metrics, is_timeout, &error);
        error.set_retry(can_retry);
        // The source is what the answer depends on.
        error.esource = ErrorSource::Upstream;
        error
    }
}
