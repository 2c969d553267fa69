//! Answers requests that could not be forwarded, and says whose fault it was.
//!
//! Invariant: a client learns the kind of fault and nothing about the target; the log has both.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::Version;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

use super::context::RequestContext;
use super::{EdgeProxy, reply};
use crate::guard::Pace;
use crate::metrics::TargetFault;
use crate::refusals::Refusal;
use crate::reply::Problem;

/// How long content may come at any pace where its silence is not limited.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);

// === impl EdgeProxy ===

impl EdgeProxy {
    /// The last phase of a request that failed.
    pub(super) async fn answer_fault(
        &self,
        session: &mut Session,
        error: &Error,
        context: &RequestContext,
    ) -> FailToProxy {
        // Pingora does not use the connection again after most faults, so the client should not either.
        session.set_keepalive(None);
        let problem = self.judge(error, context);
        if let Some(problem) = problem {
            if reply::has_begun(session) {
                // Over HTTP/1 the connection ends before the answer does; over HTTP/2 the stream says why it ends.
                session.as_downstream_mut().shutdown_with_reason(reason(error));
            } else if let Err(failed) = reply::send_problem(session, problem, false, &context.id).await {
                tracing::debug!(error = %failed, "the client went before it was answered");
            }
        }
        let error_code = problem.map_or(0, |problem| problem.status().as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// What to answer; nothing if the client has gone.
    fn judge(&self, error: &Error, context: &RequestContext) -> Option<Problem> {
        match error.esource() {
            // Pingora takes everything that happens while connecting for the target's fault; this is what `target` says of
            // what is not.
            ErrorSource::Upstream if *error.etype() != ErrorType::InternalError => {
                Some(self.judge_target(error, context))
            }
            ErrorSource::Downstream => {
                tracing::debug!(request = %context.id, %error, fault = "client", "the client broke off or sent what is not HTTP");
                self.note_client(error, context);
                if *error.etype() == ErrorType::ReadTimedout {
                    return Some(Problem::BodyTimeout);
                }
                let has_gone = matches!(
                    error.etype(),
                    ErrorType::ReadError
                        | ErrorType::WriteError
                        | ErrorType::WriteTimedout
                        | ErrorType::ConnectionClosed
                );
                (!has_gone).then_some(Problem::BadRequest)
            }
            ErrorSource::Upstream | ErrorSource::Internal | ErrorSource::Unset => {
                let key = context.circuit().map(|circuit| circuit.key.as_str());
                tracing::error!(request = %context.id, key, %error, fault = "edge", "a request failed");
                Some(Problem::Internal)
            }
        }
    }

    /// A client that is too slow, or whose content is none, is turned away; one that has gone is not.
    fn note_client(&self, error: &Error, context: &RequestContext) {
        let Some(client) = context.client() else { return };
        let (refusal, what) = match error.etype() {
            ErrorType::ReadTimedout => (Refusal::BodyTimeout, "content"),
            ErrorType::WriteTimedout => (Refusal::WriteTimeout, "answer"),
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed | ErrorType::H2Error => return,
            _ => (Refusal::Malformed, "content"),
        };
        let key = context.circuit().map(|circuit| &circuit.key);
        self.refusals.note_request(refusal, client.ip, key, &context.id, what);
    }

    /// Ends a request whose content comes too slowly, unless its target has begun to answer. Streams of HTTP/2 are not
    /// judged: those of gRPC are silent for hours.
    pub(super) fn judge_pace(
        &self,
        session: &Session,
        body: Option<&Bytes>,
        context: &mut RequestContext,
    ) -> Result<()> {
        let least = self.client.body_bytes_per_s;
        if least == 0 || session.req_header().version == Version::HTTP_2 || reply::has_begun(session) {
            return Ok(());
        }
        let Some(bytes) = body.map(Bytes::len) else { return Ok(()) };
        let now = Instant::now();
        let grace = self.client.body.unwrap_or(DEFAULT_GRACE);
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
        self.metrics.count_target_fault(fault);
        let key = context.circuit().map(|circuit| circuit.key.as_str());
        tracing::warn!(request = %context.id, key, %error, fault = "target", reason = fault.as_str(), "target broke off");
        if is_timeout { Problem::TargetTimeout } else { Problem::TargetUnreachable }
    }
}

/// Why an answer ends before its end: what the target said if it reset its stream.
fn reason(error: &Error) -> Reason {
    let cause = error.root_cause().downcast_ref::<h2::Error>().filter(|cause| cause.is_reset() && cause.is_remote());
    cause.and_then(h2::Error::reason).unwrap_or(Reason::INTERNAL_ERROR)
}
