//! The host that a request asks for, read once.
//!
//! Invariant: the name is in normal form, and the value is the one that the client sent.

use entities::host::split_host_header;
use http::header::HOST;
use http::{HeaderValue, Version};

use crate::head::RequestView;
use crate::reply::Problem;

/// What a client says its request is for.
pub(crate) struct AskedHost {
    /// `:authority` or `Host`, as it came.
    pub(crate) value: HeaderValue,
    /// The port that it names.
    pub(crate) port: Option<u16>,
    /// How much of `value` is the name, if that is in normal form there.
    length: usize,
    /// The name, if it had to be brought into normal form.
    normal: Option<Box<str>>,
}

// === impl AskedHost ===

impl AskedHost {
    /// What `request` asks for: `:authority` if the client spoke HTTP/2 and gave one, else `Host`. Pingora has refused
    /// requests where the two differ (RFC 9113 §8.3.1). Only HTTP/1.0 may name none (RFC 9112 §3.2).
    pub(crate) fn of(request: &impl RequestView) -> Result<Option<Self>, Problem> {
        let value = request.authority().map(str::as_bytes).or_else(|| request.value(&HOST));
        let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) else {
            return if request.version() >= Version::HTTP_11 { Err(Problem::BadRequest) } else { Ok(None) };
        };
        let (name, port) = value.to_str().ok().and_then(split_host_header).ok_or(Problem::BadRequest)?;
        let (length, normal) = match name {
            std::borrow::Cow::Borrowed(name) => (name.len(), None),
            std::borrow::Cow::Owned(name) => (0, Some(name.into_boxed_str())),
        };
        Ok(Some(Self { value, port, length, normal }))
    }

    /// The name without a port, in normal form.
    pub(crate) fn name(&self) -> &str {
        match &self.normal {
            Some(normal) => normal,
            // A name that is in normal form stands at the beginning.
            None => self.value.to_str().ok().and_then(|value| value.get(..self.length)).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: Option<&str>) -> Result<Option<AskedHost>, Problem> {
        let mut request = http::Request::new(());
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host.parse().expect("valid"));
        }
        AskedHost::of(&request.into_parts().0)
    }

    #[test]
    fn a_name_is_in_normal_form_and_the_value_as_it_came() {
        for (host, name, port) in [
            ("lab.test", "lab.test", None),
            ("lab.test.", "lab.test", None),
            ("lab.test:6130", "lab.test", Some(6130)),
            ("LAB.test:80", "lab.test", Some(80)),
            ("[::1]:80", "[::1]", Some(80)),
        ] {
            let asked = asked(Some(host)).expect("valid").expect("a host");
            assert_eq!((asked.name(), asked.port, asked.value.as_bytes()), (name, port, host.as_bytes()));
        }
        assert_eq!(asked(Some("a b")).err(), Some(Problem::BadRequest));
        assert_eq!(asked(None).err(), Some(Problem::BadRequest));
    }
}
