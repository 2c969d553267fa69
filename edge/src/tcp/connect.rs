//! Connects to a target of a circuit, to the next one if the first does not answer.
//!
//! Invariant: nothing is sent before a connection stands, so every attempt may be followed by another.

use std::io;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::keep_alive;
use crate::balance::{Attempts, NoConnection};
use crate::circuit::{Connection, LiveCircuit};
use crate::descriptors;
use crate::metrics::Metrics;

/// Why there is no connection. Each attempt has been counted and logged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No target is left to try.
    #[error("no target is left to try")]
    NoTarget,
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
    /// Whose fault it is.
    pub(crate) fn fault(&self) -> &'static str {
        match self {
            Self::NoDescriptor(_) => "edge",
            Self::NoTarget | Self::TimedOut | Self::Refused(_) => "target",
        }
    }
}

/// A connection to a target of `circuit`.
pub(crate) async fn connect(
    circuit: &LiveCircuit,
    connection: &Connection,
    attempts: &mut Attempts,
    metrics: &Metrics,
) -> Result<TcpStream, ConnectError> {
    while let Some(place) = attempts.next(&circuit.key, &circuit.balancer, metrics).await {
        connection.set_target(place.target.identity());
        let error = match timeout(circuit.limits.connect, TcpStream::connect(place.address)).await {
            Ok(Ok(target)) => {
                keep_alive(&target);
                return Ok(target);
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
        if !attempts.failed(&circuit.key, &circuit.balancer, metrics, why, &error) {
            return Err(error);
        }
    }
    Err(ConnectError::NoTarget)
}
