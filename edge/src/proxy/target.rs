//! Chooses the target of a request, and another one when it cannot be reached or breaks off.
//!
//! Invariant: after something of a request was sent, another target gets it only if its method is idempotent, all of it is
//! still there, nothing of an answer has been passed on, and either the circuit allows it or the connection had been used
//! before.

use std::io;
use std::sync::Arc;

use http::HeaderValue;
use http::header::COOKIE;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;

use super::{EdgeProxy, reply};
use crate::balance::{BrokenOff, NoConnection};
use crate::decide::RequestContext;
use crate::descriptors;

// === impl EdgeProxy ===

impl EdgeProxy {
    /// Where the next attempt goes.
    pub(super) async fn choose_target(&self, session: &Session, context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let circuit = match &context.circuit {
            Some((circuit, _)) => Arc::clone(circuit),
            None => return Error::e_explain(ErrorType::InternalError, "a request without a circuit is forwarded"),
        };
        remember_target(session, context);
        match context.attempts.next(&circuit.key, &circuit.balancer).await {
            Some(place) => {
                context.recording.chose(place.target.target(), place.number);
                context.busy.connection.set_target(place.target.identity());
                Ok(place.target.peer(place.address))
            }
            None => Err(Error::explain(ErrorType::ConnectError, "no target is left to try").into_up()),
        }
    }

    /// An attempt to connect has failed.
    pub(super) fn try_next_target(&self, context: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
        let Some((circuit, _)) = &context.circuit else { return error };
        let cause = error.root_cause().downcast_ref::<io::Error>();
        if cause.is_some_and(descriptors::are_used_up) {
            error.set_retry(false);
            error.etype = ErrorType::InternalError;
            return error;
        }
        let why = match error.etype() {
            ErrorType::ConnectTimedout => NoConnection::TimedOut,
            ErrorType::ConnectRefused => NoConnection::Refused,
            _ if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused) => NoConnection::Refused,
            _ => NoConnection::Failed,
        };
        let can_retry = context.attempts.failed(&circuit.key, &circuit.balancer, why, &error);
        error.set_retry(can_retry);
        // The source is what the answer depends on.
        error.esource = ErrorSource::Upstream;
        error
    }

    /// A target broke off after something was sent.
    pub(super) fn target_broke_off(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut RequestContext,
        is_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let answer = &context.busy.connection.answer;
        answer.stop();
        let is_overdue = answer.is_overdue();
        if is_overdue {
            // The edge has ended the wait itself.
            error.etype = ErrorType::ReadTimedout;
            error.esource = ErrorSource::Upstream;
        }
        let is_targets = *error.esource() == ErrorSource::Upstream && !is_overdue;
        // Only pingora knows whether the connection may have been closed before the request came.
        error.retry.decide_reuse(is_reused);
        let how = if error.retry() { BrokenOff::Reused } else { BrokenOff::Fresh };
        let is_whole = !session.as_ref().retry_buffer_truncated() && !reply::has_begun(session);
        let may_retry = is_targets && is_whole && session.req_header().method.is_idempotent();
        let Some((circuit, _)) = &context.circuit else { return error };
        if is_targets && how == BrokenOff::Fresh {
            context.attempts.note_broken(&circuit.balancer);
        }
        let is_retried = may_retry && context.attempts.broke_off(&circuit.key, &circuit.balancer, how, &error);
        error.set_retry(is_retried);
        error
    }

    /// A target broke off a handshake over a connection of its own, before it answered; whether there is another one to ask.
    pub(super) fn try_another_target(&self, context: &mut RequestContext, error: &Error) -> bool {
        let Some((circuit, _)) = &context.circuit else { return false };
        let (key, balancer) = (&circuit.key, &circuit.balancer);
        context.attempts.note_broken(balancer);
        context.attempts.broke_off(key, balancer, BrokenOff::Fresh, error)
    }
}

/// Prefers the target that the client's cookie names.
pub(super) fn remember_target(session: &Session, context: &mut RequestContext) {
    let Some((circuit, _)) = &context.circuit else { return };
    if let Some(stickiness) = circuit.balancer.stickiness() {
        let cookies = session.req_header().headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        context.attempts.prefer(stickiness.find(cookies));
    }
}
