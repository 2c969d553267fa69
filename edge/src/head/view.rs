//! A request's head as decisions read it, whichever parser has read it first.
//!
//! Invariant: a view shows what the head says and changes nothing; asking for a field allocates nothing.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

/// The head of a request.
pub trait RequestView {
    /// The method.
    fn method(&self) -> &Method;

    /// The path without the query.
    fn path(&self) -> &str;

    /// The query without its question mark.
    fn query(&self) -> Option<&str>;

    /// The version that the client spoke.
    fn version(&self) -> Version;

    /// `:authority` of HTTP/2; an absolute URI of HTTP/1 has none here, because the guard has compared it with `Host`.
    fn authority(&self) -> Option<&str>;

    /// The values of a field, in their order.
    fn values<'a>(&'a self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]>;

    /// These fields as a map, for what needs one.
    fn map_of(&self, names: &[HeaderName]) -> Cow<'_, HeaderMap>;

    /// The first value of a field.
    fn value(&self, name: &HeaderName) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// Whether there is such a field.
    fn has(&self, name: &HeaderName) -> bool {
        self.value(name).is_some()
    }
}

impl RequestView for Parts {
    fn method(&self) -> &Method {
        &self.method
    }

    fn path(&self) -> &str {
        self.uri.path()
    }

    fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    fn version(&self) -> Version {
        self.version
    }

    fn authority(&self) -> Option<&str> {
        let authority = self.uri.authority().filter(|_| self.version == Version::HTTP_2);
        authority.map(http::uri::Authority::as_str)
    }

    fn values<'a>(&'a self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    fn map_of(&self, _names: &[HeaderName]) -> Cow<'_, HeaderMap> {
        Cow::Borrowed(&self.headers)
    }
}
