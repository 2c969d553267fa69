//! An answer of the edge's own, and how it looks in HTTP/1.1.
//!
//! Invariant: none may be stored by a cache.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{HeaderName, LOCATION, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};

use crate::request_id::{REQUEST_ID, RequestId};

/// An answer of the edge's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its media type.
    pub(crate) content_type: &'static str,
    /// Its content.
    pub(crate) body: Bytes,
    /// Fields besides those of every answer.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// Whether the connection ends with it.
    pub(crate) must_close: bool,
}

// === impl Reply ===

impl Reply {
    /// JSON.
    pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: value.to_string().into(),
            fields: Vec::new(),
            must_close: false,
        }
    }

    /// Leads a browser to `location`, whose answer to `GET` is wanted (RFC 9110 §15.4.4). The address that it comes from may
    /// hold a secret, so it goes no further.
    pub(crate) fn see_other(location: HeaderValue) -> Self {
        Self {
            status: StatusCode::SEE_OTHER,
            content_type: "text/plain; charset=utf-8",
            body: Bytes::new(),
            fields: vec![(LOCATION, location), (REFERRER_POLICY, HeaderValue::from_static("no-referrer"))],
            must_close: false,
        }
    }

    /// The same answer with another field.
    #[must_use]
    pub(crate) fn with_field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }

    /// The answer to the request `id` in HTTP/1.1; the connection is kept or ends with it.
    pub(crate) fn http1(&self, id: &RequestId, is_head_only: bool, keeps: bool) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or_default();
        let mut head = String::with_capacity(256 + self.body.len());
        // Writing to a string does not fail.
        let _ = write!(
            head,
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             {REQUEST_ID}: {id}\r\n",
            self.status.as_u16(),
            self.content_type,
            self.body.len(),
        );
        if !keeps {
            head.push_str("Connection: close\r\n");
        }
        for (name, value) in &self.fields {
            let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !is_head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    /// The same answer, and the connection ends with it.
    #[must_use]
    pub(crate) fn closing(mut self) -> Self {
        self.must_close = true;
        self
    }
}
