//! Connects to a target of a circuit, to the next one if the first does not answer.
//!
//! Invariant: nothing is sent before a connection stands, so every attempt may be followed by another.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::balance::{Attempts, NoConnection, Place};
use crate::circuit::LiveCircuit;
use crate::connection::Connection;
use crate::descriptors;
use crate::record::Recording;
use crate::reply::Problem;
use crate::socket::keep_alive;

/// Why there is no connection. Each attempt has been counted and logged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No target is left to try.
    #[error("no target is left to try")]
    NoTarget,
    /// No target that is left has an address that may be used.
    #[error("no target has an address that may be used")]
    NoAddress,
    /// The last target did not answer in time.
    #[error("the target did not answer in time")]
    TimedOut,
    /// There is no file descriptor left to connect with.
    #[error("the edge cannot connect: {0}")]
    NoDescriptor(#[source] io::Error),
    /// The last target does not take connections.
    #[error("the target takes no connection: {0}")]
    Refused(#[source] io::Error),
}

// === impl ConnectError ===

impl ConnectError {
    /// What a client is told that could be told anything.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::NoTarget => Problem::NoTarget,
            Self::TimedOut => Problem::TargetTimeout,
            Self::NoDescriptor(_) => Problem::Internal,
            Self::NoAddress | Self::Refused(_) => Problem::TargetUnreachable,
        }
    }
}

/// A new connection to a target of `circuit`.
pub(crate) async fn connect(
    circuit: &LiveCircuit,
    connection: &Connection,
    attempts: &mut Attempts,
    recording: &mut Recording,
) -> Result<TcpStream, ConnectError> {
    reach(circuit, connection, attempts, recording, |_| None).await.map(|reached| reached.socket)
}

/// A connection to a target.
pub(crate) struct ReachedTarget {
    /// The connection.
    pub(crate) socket: TcpStream,
    /// Whether it had carried something before.
    pub(crate) is_reused: bool,
    /// The target of the circuit.
    pub(crate) identity: u64,
    /// One of its addresses.
    pub(crate) address: SocketAddr,
}

/// A connection to a target of `circuit`: an idle one, if `idle` has one that leads where the strategy chooses.
pub(crate) async fn reach(
    circuit: &LiveCircuit,
    connection: &Connection,
    attempts: &mut Attempts,
    recording: &mut Recording,
    idle: impl Fn(&Place<'_>) -> Option<TcpStream>,
) -> Result<ReachedTarget, ConnectError> {
    while let Some(place) = attempts.next(&circuit.key, &circuit.balancer).await {
        recording.chose(place.target.target(), place.number);
        let (identity, address) = (place.target.identity(), place.address);
        connection.set_target(identity);
        if let Some(socket) = idle(&place) {
            recording.connected();
            return Ok(ReachedTarget { socket, is_reused: true, identity, address });
        }
        let error = match timeout(circuit.limits.connect, TcpStream::connect(place.address)).await {
            Ok(Ok(socket)) => {
                keep_alive(&socket);
                recording.connected();
                return Ok(ReachedTarget { socket, is_reused: false, identity, address });
            }
            Ok(Err(error)) if descriptors::are_used_up(&error) => return Err(ConnectError::NoDescriptor(error)),
            Ok(Err(error)) => ConnectError::Refused(error),
            Err(_) => ConnectError::TimedOut,
        };
        let why = match &error {
            ConnectError::TimedOut => NoConnection::TimedOut,
            ConnectError::Refused(error) if error.kind() == io::ErrorKind::ConnectionRefused => NoConnection::Refused,
            _ => NoConnection::Failed,
        };
        if !attempts.failed(&circuit.key, &circuit.balancer, why, &error) {
            return Err(error);
        }
    }
    // A circuit whose targets cannot be reached is not one without targets.
    Err(if attempts.is_untried() { ConnectError::NoTarget } else { ConnectError::NoAddress })
}
