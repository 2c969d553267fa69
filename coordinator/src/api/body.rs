//! Reads a request's JSON body.
//!
//! Invariant: never more than [`MAX_API_BODY_BYTES`] are held, and never waited for longer than the call has time for,
//! whatever the client says or sends.

use bytes::Buf;
use entities::faults::{FaultCode, Faults};
use entities::limits::MAX_API_BODY_BYTES;
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call;
use super::problem::Problem;
use crate::refusals::Refusal;

/// Reads a whole body.
pub(super) async fn read(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Result<Vec<u8>, Problem> {
    let Some(deadline) = call::current().map(|call| call.body_deadline) else { return collect(body).await };
    tokio::time::timeout_at(deadline, collect(body)).await.unwrap_or_else(|_| {
        let detail = "the body did not come in time";
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, Refusal::BodyTimeout.as_str(), detail))
    })
}

async fn collect(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Result<Vec<u8>, Problem> {
    let mut body = std::pin::pin!(body);
    let mut collected = Vec::new();
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|error| {
            tracing::debug!(%error, "the client broke off its request");
            Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", "the body ended early")
        })?;
        let total = collected.len().saturating_add(chunk.remaining());
        if u64::try_from(total).unwrap_or(u64::MAX) > MAX_API_BODY_BYTES {
            let detail = format!("a body has at most {MAX_API_BODY_BYTES} bytes");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "body_too_large", detail));
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            collected.extend_from_slice(part);
            let length = part.len();
            chunk.advance(length);
        }
    }
    Ok(collected)
}

/// Reads a body as JSON of any shape.
pub(super) fn parse_value(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Faults::one("", FaultCode::Malformed, format!("the body is not JSON: {error}")).into())
}

/// Reads a body as JSON of one shape.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Faults::one("", FaultCode::Malformed, error.to_string()).into())
}
