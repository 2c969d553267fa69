//! Who calls: reads the API key of a request and checks its scope.
//!
//! Invariant: every handler but health and the OpenAPI document starts here.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};

use super::Api;
use super::call::{self, Call};
use super::problem::Problem;
use crate::keys::{ApiKey, Scope};
use entities::range::AddressRange;

/// The header that clients of Backend.AI use.
const TOKEN_HEADER: &str = "x-backendai-token";

fn secret(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    });
    bearer.or_else(|| headers.get(TOKEN_HEADER).and_then(|value| value.to_str().ok()).map(str::trim))
}

impl Api {
    fn key(&self, headers: &HeaderMap) -> Result<Arc<ApiKey>, Problem> {
        let key = secret(headers).and_then(|secret| self.keys.find(secret)).ok_or_else(|| {
            let detail = "give an API key: Authorization: Bearer <key>";
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        })?;
        if let Some(call) = call::current() {
            call.note_key(Arc::clone(&key));
        }
        Ok(key)
    }

    /// Only managers.
    pub(super) fn check_manager(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self.key(headers)?.scope() {
            Scope::Manager => Ok(()),
            other => Err(wrong_scope(other, "manager")),
        }
    }

    /// Managers and those who may look.
    pub(super) fn check_read(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self.key(headers)?.scope() {
            Scope::Manager | Scope::Read => Ok(()),
            other @ Scope::Worker { .. } => Err(wrong_scope(other, "manager or read")),
        }
    }

    /// Those who may look, and everybody at an address from which the metrics may be read.
    pub(super) fn check_metrics(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let is_allowed = |call: Arc<Call>| {
            call.origin.is_known && AddressRange::any_contains(&self.config.metrics_allowed, call.origin.client)
        };
        if call::current().is_some_and(is_allowed) { Ok(()) } else { self.check_read(headers) }
    }

    /// Only workers; the scope says of which authorities.
    pub(super) fn check_worker(&self, headers: &HeaderMap) -> Result<Scope, Problem> {
        match self.key(headers)?.scope() {
            scope @ Scope::Worker { .. } => Ok(scope.clone()),
            other => Err(wrong_scope(other, "worker")),
        }
    }
}

fn wrong_scope(scope: &Scope, wanted: &str) -> Problem {
    let detail = format!("this needs a key of scope {wanted}; the key given has scope {}", scope.as_str());
    Problem::new(StatusCode::FORBIDDEN, "wrong_scope", detail)
}
