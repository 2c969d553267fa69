//! The audit log: who changed what, and from where.
//!
//! Invariant: every change that was begun leaves exactly one line, whatever became of it and of the caller, and no line
//! holds a key. Heartbeats are signs of life, not changes.

use http::StatusCode;
use warp::reply::Response;

use super::Handled;
use super::call::Call;
use super::problem::ProblemCode;
use crate::keys::ApiKey;

/// What an answer tells the audit log beside its status.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    /// The circuit's key.
    pub(super) circuit: Option<String>,
    /// Its generation after the change.
    pub(super) generation: Option<u64>,
    /// How many circuits were closed.
    pub(super) closed: Option<usize>,
}

/// Notes how a change ended. What is not done for a call is nobody's change.
pub(super) fn note(call: Option<&Call>, handled: &Handled) {
    let Some(call) = call else { return };
    let change = handled.as_ref().ok().and_then(|response| response.extensions().get::<Change>());
    let (status, code) = outcome(handled);
    tracing::info!(
        target: "audit",
        key = call.key().map(ApiKey::label),
        scope = call.key().map(|key| key.scope().as_str()),
        method = %call.method,
        route = &*call.route,
        path = call.path,
        circuit = change.and_then(|change| change.circuit.as_deref()),
        generation = change.and_then(|change| change.generation),
        closed = change.and_then(|change| change.closed),
        status = status.as_u16(),
        code,
        peer = %call.origin.peer,
        client = %call.origin.client,
        request_id = call.id,
        "change"
    );
}

fn outcome(handled: &Handled) -> (StatusCode, Option<&'static str>) {
    match handled {
        Ok(response) => (response.status(), response.extensions().get::<ProblemCode>().map(|code| code.0)),
        Err(problem) => (problem.status(), Some(problem.code())),
    }
}

/// Lets the audit log know more of a change.
pub(super) fn with(change: Change, mut response: Response) -> Response {
    response.extensions_mut().insert(change);
    response
}
