//! One call of the API while it is answered: its id, whom it is from, and its time.
//!
//! Invariant: whatever a handler does, tasks that it leaves behind included, can see the call that it is done for.

use std::sync::{Arc, OnceLock};

use http::request::Parts;
use http::{HeaderMap, Method};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;

use crate::addresses::Origin;
use crate::keys::ApiKey;

/// Where callers give an id of their own, the first one that is sane counts.
const REQUEST_ID_HEADERS: [&str; 2] = ["x-request-id", "x-backendai-requestid"];

/// The longest id that is taken over.
const MAX_REQUEST_ID_BYTES: usize = 128;

tokio::task_local! {
    static CURRENT: Arc<Call>;
}

/// What is known of a call.
#[derive(Debug)]
pub(super) struct Call {
    /// Stands in every line of the log that belongs to the call, and in its answer.
    pub(super) id: String,
    pub(super) method: Method,
    pub(super) path: String,
    /// The route as the document writes it, or `none`.
    pub(super) route: Arc<str>,
    /// Whom it is from.
    pub(super) origin: Origin,
    /// Until when its body must be there.
    pub(super) body_deadline: Instant,
    key: OnceLock<Arc<ApiKey>>,
    /// Held for as long as anything is done for the call.
    _place: Option<OwnedSemaphorePermit>,
}

// === impl Call ===

impl Call {
    pub(super) fn new(
        head: &Parts,
        route: Arc<str>,
        origin: Origin,
        body_deadline: Instant,
        place: Option<OwnedSemaphorePermit>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: request_id(&head.headers),
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            route,
            origin,
            body_deadline,
            key: OnceLock::new(),
            _place: place,
        })
    }

    /// The caller has shown this key.
    pub(super) fn note_key(&self, key: Arc<ApiKey>) {
        // A handler that looks at the key twice finds the same one.
        let _ = self.key.set(key);
    }

    /// The key that the caller has shown.
    pub(super) fn key(&self) -> Option<&ApiKey> {
        self.key.get().map(Arc::as_ref)
    }
}

/// The call that the running task is for; `None` only outside of calls.
pub(super) fn current() -> Option<Arc<Call>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Runs `work` for `call`.
pub(super) async fn run<T>(call: Arc<Call>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(call, work).await
}

/// Work that goes on in a task of its own is still for the same call.
pub(super) fn carry<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let call = current();
    async move {
        match call {
            Some(call) => CURRENT.scope(call, work).await,
            None => work.await,
        }
    }
}

/// The caller's id of the request if it has a sane one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = REQUEST_ID_HEADERS.into_iter().filter_map(|name| headers.get(name)?.to_str().ok());
    let is_sane =
        |id: &&str| (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.into_iter().find(is_sane).map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_id_is_taken_over_only_if_it_is_short_and_visible() {
        let id = |fields: &[(&'static str, &[u8])]| {
            let fields = fields.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"))
            });
            request_id(&fields.collect())
        };
        assert_eq!(id(&[("x-request-id", b"a-1")]), "a-1");
        assert_eq!(id(&[("x-backendai-requestid", b"b-2")]), "b-2");
        assert_eq!(id(&[("x-request-id", b"two words"), ("x-backendai-requestid", b"b-2")]), "b-2");
        let long = [b'x'; MAX_REQUEST_ID_BYTES + 1];
        assert_eq!(id(&[("x-request-id", &long[1..])]).len(), MAX_REQUEST_ID_BYTES);
        for bad in [&b""[..], b"a b", b"\xc3\xa4", b"a\tb", &long] {
            assert_eq!(id(&[("x-request-id", bad)]).len(), 32, "{bad:?}");
        }
        assert_ne!(id(&[]), id(&[]));
    }
}
