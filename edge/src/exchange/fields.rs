//! What the fields of a message of HTTP/1 are to a proxy.
//!
//! Invariant: a name is compared without case, and a list that `Connection` gives has a limit.

/// Fields that `Connection` may name besides its options; a message that names more is malformed.
const MAX_NOMINATED: usize = 16;

/// What a field is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is passed on.
    Ordinary,
    /// It is for this hop alone (RFC 9110 §7.6.1).
    Hop,
    /// It says where a request came from, which is the proxy's to say.
    Claim,
    /// Only the manager in front of the edge may say it.
    Manager,
    Connection,
    ContentLength,
    TransferEncoding,
    Host,
    Cookie,
    SetCookie,
    Authorization,
    /// It carries a credential of the edge's own.
    OwnToken,
    Referer,
    RequestId,
    Via,
    Expect,
    Trailer,
    Te,
}

/// What `Connection` says.
#[derive(Debug, Default)]
pub(super) struct ConnectionOptions<'a> {
    pub(super) is_close: bool,
    pub(super) is_keep_alive: bool,
    nominated: [&'a [u8]; MAX_NOMINATED],
    count: usize,
}

/// What the field called `name` is.
pub(super) fn kind_of(name: &[u8]) -> Kind {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    // Nearly every field is told by its length and its first letter.
    match (name.len(), name.first().map_or(0, u8::to_ascii_lowercase)) {
        (2, b't') if is("te") => Kind::Te,
        (3, b'v') if is("via") => Kind::Via,
        (4, b'h') if is("host") => Kind::Host,
        (6, b'c') if is("cookie") => Kind::Cookie,
        (6, b'e') if is("expect") => Kind::Expect,
        (7, b'r') if is("referer") => Kind::Referer,
        (7, b't') if is("trailer") => Kind::Trailer,
        (7, b'u') if is("upgrade") => Kind::Hop,
        (9, b'f') if is("forwarded") => Kind::Claim,
        (9, b'x') if is("x-real-ip") => Kind::Claim,
        (10, b'c') if is("connection") => Kind::Connection,
        (10, b'k') if is("keep-alive") => Kind::Hop,
        (10, b's') if is("set-cookie") => Kind::SetCookie,
        (12, b'x') if is("x-request-id") => Kind::RequestId,
        (13, b'a') if is("authorization") => Kind::Authorization,
        (14, b'c') if is("content-length") => Kind::ContentLength,
        (14, b'h') if is("http2-settings") => Kind::Hop,
        (15, b'x') if is("x-forwarded-for") => Kind::Claim,
        (16, b'p') if is("proxy-connection") => Kind::Hop,
        (16, b'x') if is("x-forwarded-host") || is("x-forwarded-port") => Kind::Claim,
        (16, b'x') if is("x-appproxy-token") => Kind::OwnToken,
        (17, b't') if is("transfer-encoding") => Kind::TransferEncoding,
        (17, b'x') if is("x-forwarded-proto") => Kind::Claim,
        (18 | 19, b'p') if is("proxy-authenticate") || is("proxy-authorization") => Kind::Hop,
        (12.., b'x') if name.get(..12).is_some_and(|name| name.eq_ignore_ascii_case(b"x-backendai-")) => Kind::Manager,
        _ => Kind::Ordinary,
    }
}

// === impl ConnectionOptions ===

impl<'a> ConnectionOptions<'a> {
    /// What these fields say; nothing if they name too many others.
    pub(super) fn of(fields: &[httparse::Header<'a>]) -> Option<Self> {
        let mut options = Self::default();
        let lists = fields.iter().filter(|field| kind_of(field.name.as_bytes()) == Kind::Connection);
        for token in lists.flat_map(|field| field.value.split(|byte| *byte == b',')) {
            options.take(token.trim_ascii())?;
        }
        Some(options)
    }

    fn take(&mut self, token: &'a [u8]) -> Option<()> {
        if token.is_empty() {
        } else if token.eq_ignore_ascii_case(b"close") {
            self.is_close = true;
        } else if token.eq_ignore_ascii_case(b"keep-alive") {
            self.is_keep_alive = true;
        } else if !matches!(
            kind_of(token),
            Kind::ContentLength | Kind::TransferEncoding | Kind::Connection | Kind::Host
        ) {
            *self.nominated.get_mut(self.count)? = token;
            self.count += 1;
        }
        Some(())
    }

    /// Whether the field called `name` is for this hop alone.
    pub(super) fn names(&self, name: &[u8]) -> bool {
        self.nominated.iter().take(self.count).any(|nominated| nominated.eq_ignore_ascii_case(name))
    }
}

/// Writes one field.
pub(super) fn write(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(name: &'a str, value: &'a str) -> httparse::Header<'a> {
        httparse::Header { name, value: value.as_bytes() }
    }

    #[test]
    fn names_are_told_without_case() {
        for (name, kind) in [
            ("Host", Kind::Host),
            ("COOKIE", Kind::Cookie),
            ("x-Forwarded-For", Kind::Claim),
            ("X-BackendAI-User", Kind::Manager),
            ("X-AppProxy-Token", Kind::OwnToken),
            ("Proxy-Authorization", Kind::Hop),
            ("Content-Type", Kind::Ordinary),
            ("x", Kind::Ordinary),
            ("", Kind::Ordinary),
        ] {
            assert_eq!(kind_of(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn connection_names_fields_of_this_hop_and_never_framing() {
        let fields = [field("connection", "close, X-Hop , ,content-length"), field("Connection", "Keep-Alive,x-other")];
        let options = ConnectionOptions::of(&fields).expect("few");
        assert!(options.is_close && options.is_keep_alive);
        assert!(options.names(b"x-hop") && options.names(b"X-Other") && !options.names(b"Content-Length"));
        let many = vec!["x"; MAX_NOMINATED + 1].join(",");
        assert!(ConnectionOptions::of(&[field("connection", &many)]).is_none());
    }
}
