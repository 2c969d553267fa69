//! What a service speaks, and the driver that carries it.
//!
//! Invariant: a pair of protocol and backend that [`Protocol::allows`] is one that the edge carries.

use serde::{Deserialize, Serialize};

/// What the service speaks; it chooses the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 with upgrades.
    #[default]
    Http,
    /// HTTP/1.1 of a service that the container opens by itself.
    Preopen,
    /// HTTP/2.
    H2,
    /// gRPC over HTTP/2.
    Grpc,
    /// Any byte stream.
    Tcp,
    /// Remote desktop (RFC 6143), a byte stream to us.
    Vnc,
    /// Remote desktop, a byte stream to us.
    Rdp,
    /// Secure shell, a byte stream to us.
    Ssh,
}

/// The protocol driver towards targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
    H2,
    /// Bytes as they come.
    Tcp,
}

// === impl Protocol ===

impl Protocol {
    /// The words on the wire.
    pub const WORDS: [(&'static str, Self); 8] = [
        ("http", Self::Http),
        ("preopen", Self::Preopen),
        ("h2", Self::H2),
        ("grpc", Self::Grpc),
        ("tcp", Self::Tcp),
        ("vnc", Self::Vnc),
        ("rdp", Self::Rdp),
        ("ssh", Self::Ssh),
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, protocol)| *protocol == self).map_or("", |(word, _)| word)
    }

    /// The backend that carries this protocol when the caller leaves the choice to us.
    pub fn automatic_backend(self) -> Backend {
        match self {
            Self::Http | Self::Preopen => Backend::Http,
            Self::H2 | Self::Grpc => Backend::H2,
            Self::Tcp | Self::Vnc | Self::Rdp | Self::Ssh => Backend::Tcp,
        }
    }

    /// Whether `backend` can carry this protocol. Bytes can carry anything; a byte stream is not HTTP, and gRPC ends
    /// its answers with trailers that HTTP/1.1 clients and servers lose.
    pub fn allows(self, backend: Backend) -> bool {
        match self {
            Self::Http | Self::Preopen | Self::H2 => true,
            Self::Grpc => backend != Backend::Http,
            Self::Tcp | Self::Vnc | Self::Rdp | Self::Ssh => backend == Backend::Tcp,
        }
    }

    /// Whether clients may speak HTTP/2 without TLS to a port of such a circuit.
    pub fn is_http2_in_front(self) -> bool {
        matches!(self, Self::H2 | Self::Grpc)
    }

    /// The scheme of a byte stream's URL; `None` if the service speaks HTTP.
    pub fn stream_scheme(self) -> Option<&'static str> {
        match self {
            Self::Http | Self::Preopen | Self::H2 | Self::Grpc => None,
            Self::Tcp => Some("tcp"),
            Self::Vnc => Some("vnc"),
            Self::Rdp => Some("rdp"),
            Self::Ssh => Some("ssh"),
        }
    }
}
