//! One probe: connects, and asks if the check says so.
//!
//! Invariant: a probe is over when its time is, whatever the target does, and goes nowhere that a request may not go.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use entities::health_check::CheckType;
use http::{Request, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Address;
use super::watch::{AddressHealth, Checked};
use crate::address::AddressError;
use crate::egress::Egress;
use crate::head::{HeadError, Message, parse_status, read_head};

/// How long a probe may take that nobody has set a time for.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// Addresses of a name that one probe tries.
const MAX_ADDRESSES: usize = 3;

/// Informational answers before the final one.
const MAX_INFORMATIONAL: usize = 16;

/// What a target sees as our name.
const USER_AGENT: &str = concat!("appproxy/", env!("CARGO_PKG_VERSION"), " (health check)");

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// There is nowhere to go.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It takes no connection.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The request could not be sent.
    #[error("the request could not be sent: {0}")]
    Send(#[source] io::Error),
    /// It did not answer in HTTP/1.
    #[error("no answer of HTTP: {0}")]
    Head(#[from] HeadError),
    /// It did not answer in HTTP/1.
    #[error("no answer of HTTP: {0}")]
    Malformed(#[from] httparse::Error),
    /// It did not answer in HTTP/2.
    #[error("no answer of HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    /// The check cannot be asked.
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    /// It says and says that it will answer.
    #[error("more than {MAX_INFORMATIONAL} informational answers")]
    NothingFinal,
    /// It answered, and not as expected.
    #[error("status {0}")]
    Status(u16),
}

/// Whether an address takes connections.
pub(super) async fn probe_connection(address: &AddressHealth, egress: &Egress) -> Result<(), ProbeError> {
    in_time(CONNECT_TIME, connect(address, egress)).await.map(drop)
}

/// Whether a check succeeds.
pub(super) async fn probe_check(checked: &Checked, egress: &Egress) -> Result<(), ProbeError> {
    let check = checked.check();
    let limit = Duration::from_secs(check.timeout_s.into());
    let asking = async {
        let target = connect(&checked.address, egress).await?;
        let path = match check.kind {
            CheckType::Tcp => return Ok(()),
            CheckType::Http => check.path.as_deref().unwrap_or("/"),
        };
        let address = &checked.address.address;
        let status = if checked.question.is_http2 {
            ask_http2(target, address, path).await?
        } else {
            ask_http1(target, address, path).await?
        };
        if check.expects(status) { Ok(()) } else { Err(ProbeError::Status(status)) }
    };
    in_time(limit, asking).await
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, ProbeError>>) -> Result<T, ProbeError> {
    timeout(limit, work).await.map_err(|_| ProbeError::TimedOut(limit))?
}

/// A connection to the first address that takes one.
async fn connect(address: &AddressHealth, egress: &Egress) -> Result<TcpStream, ProbeError> {
    let mut failed = None;
    for number in 0..MAX_ADDRESSES {
        let Address { host, port } = &address.address;
        let place = match address.resolution.get(host, *port, number, CONNECT_TIME, egress).await {
            Ok(place) => place,
            Err(error) => return Err(failed.unwrap_or(ProbeError::Address(error))),
        };
        match TcpStream::connect(place).await {
            Ok(target) => return Ok(target),
            Err(error) => failed = Some(ProbeError::Connect(error)),
        }
    }
    Err(failed.unwrap_or(ProbeError::TimedOut(CONNECT_TIME)))
}

async fn ask_http1(mut target: TcpStream, address: &Address, path: &str) -> Result<u16, ProbeError> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    target.write_all(request.as_bytes()).await.map_err(ProbeError::Send)?;
    let mut read = BytesMut::new();
    for _ in 0..=MAX_INFORMATIONAL {
        let length = read_head(&mut target, &mut read, Message::Response).await?;
        let (_, status) = parse_status(read.get(..length).unwrap_or_default())?;
        if status >= 200 {
            return Ok(status);
        }
        drop(read.split_to(length));
    }
    Err(ProbeError::NothingFinal)
}

async fn ask_http2(target: TcpStream, address: &Address, path: &str) -> Result<u16, ProbeError> {
    let (mut client, connection) = h2::client::handshake(target).await?;
    let request = Request::get(format!("http://{address}{path}")).header("user-agent", USER_AGENT).body(())?;
    let (answer, _) = client.send_request(request, true)?;
    tokio::select! {
        answer = answer => Ok(answer?.status().as_u16()),
        ended = connection => {
            ended?;
            Err(ProbeError::Status(StatusCode::BAD_GATEWAY.as_u16()))
        }
    }
}
