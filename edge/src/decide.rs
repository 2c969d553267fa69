//! What becomes of a request: who asks, for what, whether it may. Every engine that carries requests asks here.
//!
//! Invariant: nothing is forwarded before [`Decider::look_up`] has found a circuit and noted that the connection serves it;
//! nothing here knows who has parsed the head or who carries the request.

mod admission;
mod asked;
mod context;
mod look_up;

use std::sync::Arc;

use crate::access::Authorizer;
use crate::api::Api;
use crate::shared::Shared;
pub(crate) use context::{Arrived, ArrivedStream, Exit, RequestContext};
pub(crate) use look_up::{Found, Verdict};

/// Decides about all requests of an edge.
pub(crate) struct Decider {
    /// What everything that serves clients shares.
    pub(crate) shared: Arc<Shared>,
    /// What the edge itself is asked.
    pub(crate) api: Api,
    /// Who may use circuits.
    pub(crate) authorizer: Authorizer,
}
