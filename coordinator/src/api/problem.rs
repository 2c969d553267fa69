//! Problem documents (RFC 9457) and how errors become them.
//!
//! Invariant: this is the only place that turns an error into a status; what failed inside is logged, not told.

use entities::faults::{Fault, FaultCode, Faults};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::{Reply, Response};

use crate::circuits::CircuitError;
use crate::placement::NoPlace;
use crate::refusals::Refusal;
use crate::store::{SlotRefusal, StoreError};
use crate::workers::WorkerError;

/// The body of every answer that is not a success.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the code says more than a page could.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// What is wrong, for programs.
    code: &'static str,
    /// Every fault of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<FaultView>)]
    errors: Vec<Fault>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

/// The code of a problem, for whoever handles its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProblemCode(pub(super) &'static str);

/// One fault of a request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes `entities::faults::Fault`, which knows nothing of OpenAPI")]
pub(super) struct FaultView {
    /// Where: a JSON pointer into the body (RFC 6901), or `?name` for a query parameter.
    pointer: String,
    /// What kind: `malformed`, `required`, `wrong_type`, `invalid`, `too_large`, `unknown_field`, `not_supported`,
    /// `immutable`, `contradiction` or `duplicate`.
    code: String,
    /// In words.
    detail: String,
}

// === impl Problem ===

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    pub(crate) fn invalid(faults: &Faults) -> Self {
        let all_unsupported = faults.as_slice().iter().all(|fault| fault.code == FaultCode::NotSupported);
        let (code, detail) = if all_unsupported {
            ("not_supported", "the request asks for rules that are not enforced yet")
        } else {
            ("invalid_request", "the request has faults; each is named in errors")
        };
        let mut problem = Self::new(StatusCode::BAD_REQUEST, code, detail);
        problem.errors = faults.as_slice().to_vec();
        problem
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the coordinator failed; its log says how")
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl Reply for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let retry_after_s = self.retry_after_s;
        let mut response = super::json(status, &self);
        response.extensions_mut().insert(ProblemCode(self.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Faults> for Problem {
    fn from(faults: Faults) -> Self {
        Self::invalid(&faults)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(_) | StoreError::Busy => {
                tracing::error!(%error, "the store failed");
                let detail = "the database does not answer; nothing was changed that was not answered";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail).retry_after(1)
            }
            StoreError::Row(_) | StoreError::Encode(_) | StoreError::NewerSchema(_) | StoreError::OldSchema(_) => {
                tracing::error!(%error, "the store holds what cannot be read");
                Self::internal()
            }
        }
    }
}

impl From<CircuitError> for Problem {
    fn from(error: CircuitError) -> Self {
        let detail = error.to_string();
        match error {
            CircuitError::NoPlace(NoPlace::PortOutOfRange) => {
                Self::invalid(&Faults::one("/frontend/port", FaultCode::Invalid, detail))
            }
            CircuitError::NoPlace(NoPlace::NoWorker | NoPlace::NoFrontend) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_authority", detail).retry_after(5)
            }
            CircuitError::NoSlot(refusal) => Self::from_refusal(refusal, detail),
            CircuitError::OtherContent(_) => Self::new(StatusCode::CONFLICT, "other_content", detail),
            CircuitError::GenerationMismatch(_) => {
                Self::new(StatusCode::PRECONDITION_FAILED, "generation_mismatch", detail)
            }
            CircuitError::NotFound => Self::new(StatusCode::NOT_FOUND, "no_such_circuit", detail),
            CircuitError::PortsRefused(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ports_refused", detail).retry_after(5)
            }
            CircuitError::Invalid(faults) => Self::invalid(&faults),
            CircuitError::TooLarge(_) => Self::invalid(&Faults::one("", FaultCode::TooLarge, detail)),
            CircuitError::NotHttp => Self::new(StatusCode::CONFLICT, "not_http", detail),
            CircuitError::OtherUser => Self::new(StatusCode::FORBIDDEN, "other_user", detail),
            CircuitError::NoWayIn => Self::new(StatusCode::CONFLICT, "no_way_in", detail),
            CircuitError::Sign(error) => {
                tracing::error!(%error, "nothing can be signed");
                Self::internal()
            }
            CircuitError::Store(error) => error.into(),
        }
    }
}

impl Problem {
    fn from_refusal(refusal: SlotRefusal, detail: String) -> Self {
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, detail.clone());
        match refusal {
            SlotRefusal::PortTaken => conflict("port_taken"),
            SlotRefusal::PortResting => conflict("port_resting"),
            SlotRefusal::PortBad => conflict("port_unavailable"),
            SlotRefusal::HostTaken => conflict("subdomain_taken"),
            SlotRefusal::HostResting => conflict("subdomain_resting"),
            SlotRefusal::NoFreePort => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_free_port", detail).retry_after(5)
            }
            SlotRefusal::HostTooLong => Self::invalid(&Faults::one("/frontend/subdomain", FaultCode::TooLarge, detail)),
        }
    }
}

impl From<WorkerError> for Problem {
    fn from(error: WorkerError) -> Self {
        let detail = error.to_string();
        match error {
            WorkerError::IdInUse(_) => Self::new(StatusCode::CONFLICT, "worker_id_in_use", detail),
            WorkerError::AuthorityDiffers(_) => Self::new(StatusCode::CONFLICT, "authority_differs", detail),
            WorkerError::NoKey(_) => Self::new(StatusCode::FORBIDDEN, "no_worker_key", detail),
            WorkerError::PlainHttp(_) => Self::new(StatusCode::FORBIDDEN, Refusal::TlsRequired.as_str(), detail),
            WorkerError::NotRegistered => Self::new(StatusCode::CONFLICT, "not_registered", detail),
            WorkerError::Store(error) => error.into(),
        }
    }
}
