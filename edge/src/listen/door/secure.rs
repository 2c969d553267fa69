//! The fourth step of the door: secures a connection. Nothing does yet; TLS has its place here.
//!
//! Invariant: nothing of a connection is read or answered before this step but its introduction, and nothing behind it
//! knows whether, or by what, a stream is secured.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::{ClientStream, Secure};
use crate::refusal::Refused;
use crate::reply::Problem;

/// How long it may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Secures connections, or leaves them as they are.
pub(super) struct Securing(pub(super) Option<Arc<dyn Secure>>);

// === impl Securing ===

impl Securing {
    /// Whether connections are secured.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The stream that is served.
    pub(super) async fn pass(&self, socket: TcpStream) -> Result<ClientStream, Refused> {
        let Some(secure) = &self.0 else { return Ok(ClientStream::Plain(socket)) };
        match timeout(HANDSHAKE_TIME, secure.secure(socket)).await {
            Ok(Ok(stream)) => Ok(ClientStream::Secured(stream)),
            Ok(Err(error)) => Err(Refused::new(Problem::Handshake, error.to_string())),
            Err(_) => Err(Refused::new(Problem::Handshake, format!("took longer than {HANDSHAKE_TIME:?}"))),
        }
    }
}
