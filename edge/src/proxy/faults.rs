//! Answers requests that could not be forwarded, and says whose fault it was.
//!
//! Invariant: a client learns the kind of fault and nothing about the target; the log has both.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use h2::Reason;
use http::Version;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

use super::{EdgeProxy, reply};
use crate::balance::TargetFault;
use crate::decide::RequestContext;
use crate::guard::Pace;
use crate::limits::CONTENT_GRACE;
use crate::record::EndedBy;
use crate::refusal::{Fault, Refused};
use crate::reply::Problem;
use crate::words::Words as _;

// === impl EdgeProxy ===

impl EdgeProxy {
    /// The last phase of a request that failed.
    pub(super) async fn answer_fault(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut RequestContext,
    ) -> FailToProxy {
        // Pingora does not use the connection again after most faults, so the client should not either.
        session.set_keepalive(None);
        let mut error_code = 0;
        match self.judge(error, context) {
            Some(refused) if refused.problem == Problem::WriteTimeout => context.recording.refuse(refused),
            Some(refused) => {
                error_code = refused.problem.status().as_u16();
                if reply::has_begun(session) {
                    context.recording.refuse(refused);
                    // Over HTTP/1 the connection ends before the answer does; over HTTP/2 the stream says why it ends.
                    session.as_downstream_mut().shutdown_with_reason(reason(error));
                } else if let Err(failed) = reply::refuse(session, refused, context).await {
                    tracing::debug!(error = %failed, "the client went before it was answered");
                }
            }
            None => context.recording.end(EndedBy::Client, Some(Fault::Client)),
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// What to answer; nothing if the client has gone.
    fn judge(&self, error: &Error, context: &RequestContext) -> Option<Refused> {
        match error.esource() {
            // Pingora takes everything that happens while connecting for the target's fault; this is what `target` says of
            // what is not.
            ErrorSource::Upstream if *error.etype() != ErrorType::InternalError => {
                Some(Refused::plainly(self.judge_target(error, context)))
            }
            ErrorSource::Downstream => judge_client(error),
            ErrorSource::Upstream | ErrorSource::Internal | ErrorSource::Unset => {
                let key = context.circuit().map(|circuit| circuit.key.as_str());
                tracing::error!(request = %context.id(), key, %error, fault = "edge", "a request failed");
                Some(Refused::plainly(Problem::Internal))
            }
        }
    }

    /// Ends a request whose content comes too slowly, unless its target has begun to answer. Streams of HTTP/2 are not
    /// judged: those of gRPC are silent for hours.
    pub(super) fn judge_pace(
        &self,
        session: &Session,
        body: Option<&Bytes>,
        context: &mut RequestContext,
    ) -> Result<()> {
        let limits = &self.decider.shared.limits;
        let least = limits.body_bytes_per_s;
        if least == 0 || session.req_header().version == Version::HTTP_2 || reply::has_begun(session) {
            return Ok(());
        }
        let Some(bytes) = body.map(Bytes::len) else { return Ok(()) };
        let now = Instant::now();
        let grace = limits.body.unwrap_or(CONTENT_GRACE);
        if context.pace.get_or_insert_with(|| Pace::begin(now)).note(bytes, now, grace, least) {
            return Err(Error::explain(ErrorType::ReadTimedout, "content that trickles").into_down());
        }
        Ok(())
    }

    fn judge_target(&self, error: &Error, context: &RequestContext) -> Problem {
        match error.etype() {
            // Attempts to connect have been counted and logged one by one.
            _ if context.attempts.is_starting() => return Problem::Starting,
            ErrorType::ConnectError if context.attempts.is_untried() => return Problem::NoTarget,
            ErrorType::ConnectTimedout => return Problem::TargetTimeout,
            ErrorType::ConnectRefused | ErrorType::ConnectNoRoute | ErrorType::ConnectError => {
                return Problem::TargetUnreachable;
            }
            _ => {}
        }
        let is_timeout = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
        let fault = if is_timeout { TargetFault::Timeout } else { TargetFault::Broken };
        if let Some(circuit) = context.circuit() {
            circuit.balancer.note_fault(fault);
        }
        let key = context.circuit().map(|circuit| circuit.key.as_str());
        tracing::warn!(request = %context.id(), key, %error, fault = "target", reason = fault.as_str(), "target broke off");
        if is_timeout { Problem::TargetTimeout } else { Problem::TargetUnreachable }
    }
}

/// What to answer a client that broke off, is too slow, or whose content is none; nothing if it has gone.
fn judge_client(error: &Error) -> Option<Refused> {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    let has_stalled = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut);
    match error.etype() {
        ErrorType::ReadTimedout => Some(Refused::new(Problem::BodyTimeout, "content")),
        ErrorType::WriteTimedout => Some(Refused::new(Problem::WriteTimeout, "answer")),
        // The guard of streams has no place for another client that has stopped reading.
        ErrorType::WriteError if has_stalled => Some(Refused::new(Problem::WriteTimeout, "stalled_readers")),
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => None,
        ErrorType::H2Error if is_from_client(error) => None,
        // The stream is broken, which is no fault of its content.
        ErrorType::H2Error => Some(Refused::plainly(Problem::BadRequest)),
        _ => Some(Refused::new(Problem::BadContent, "content")),
    }
}

/// Whether the client reset its stream, or its connection broke.
fn is_from_client(error: &Error) -> bool {
    error.root_cause().downcast_ref::<h2::Error>().is_some_and(|cause| cause.is_remote() || cause.is_io())
}

/// Why an answer ends before its end: what the target said if it reset its stream.
fn reason(error: &Error) -> Reason {
    let cause = error.root_cause().downcast_ref::<h2::Error>().filter(|cause| cause.is_reset() && cause.is_remote());
    cause.and_then(h2::Error::reason).unwrap_or(Reason::INTERNAL_ERROR)
}
