//! Takes a request that becomes something else out of pingora, once its target has agreed.
//!
//! A tunnel inside of pingora costs ten times the memory, and pingora loses what a client sends early and what it sends
//! after a half-close.
//!
//! Invariant: the circuit was found and its rules were checked before; a request that no target has agreed to upgrade
//! goes on, or is answered, as an ordinary one.

use std::time::Duration;

use bytes::BytesMut;
use entities::circuit::Backend;
use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRAILER, UPGRADE};
use http::{HeaderValue, Method};
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::{HttpSession as TargetSession, http_req_header_to_wire};
use pingora::protocols::l4::stream::Stream as SocketStream;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::response::nominated;
use super::{EdgeProxy, forwarding, known, target};
use crate::decide::RequestContext;
use crate::head::HeadError;
use crate::rate::Way;
use crate::record::Spoken;
use crate::request_id::{REQUEST_ID, RequestId};
use crate::tcp::{ConnectError, connect};
use crate::tunnel::{Answer, HandshakeError, Switched, may_upgrade_to, shake_hands};

/// How long a tunnel's target may take to answer where the circuit says "for ever": a handshake is no long poll.
const HANDSHAKE_TIME: Duration = Duration::from_secs(300);

// === impl EdgeProxy ===

impl EdgeProxy {
    /// Upgrades the request if it asks for that and may: `true` if it has been answered. A request that has become a tunnel
    /// has left, and its context is gone.
    pub(super) async fn upgrade(&self, session: &mut Session, slot: &mut Option<RequestContext>) -> Result<bool> {
        let context = known(slot)?;
        let request = session.req_header();
        let may_leave = context.exit.is_some()
            // HTTP/2 has no upgrades.
            && context.circuit().is_some_and(|circuit| circuit.backend == Backend::Http)
            && request.method != Method::HEAD
            && may_upgrade_to(request.headers.get_all(UPGRADE).iter().map(HeaderValue::as_bytes));
        if !may_leave {
            // RFC 9110 §7.8: a server may ignore the field.
            session.req_header_mut().remove_header(&UPGRADE);
            return Ok(false);
        }
        let request = upgrade_request(session, context)?;
        target::remember_target(session, context);
        let (target, answer, limit) = self.shake_hands(&request, context).await?;
        match answer {
            Answer::Switched(to_client) => {
                leave(session, slot, target, &to_client)?;
                self.decider.shared.tunnels.upgrades.inc();
            }
            Answer::Ordinary(read) => self.pass_on(session, context, target, &read, limit).await?,
        }
        Ok(true)
    }

    /// What a target says to the request, and how long it may take to say more. One that breaks off has been sent a request
    /// without content: the next one may be asked where the circuit allows it.
    async fn shake_hands(&self, request: &[u8], context: &mut RequestContext) -> Result<(TcpStream, Answer, Duration)> {
        loop {
            let (mut target, limit) = self.connect(context).await?;
            let answer = timeout(limit, shake_hands(&mut target, request)).await;
            let error = match answer {
                Ok(Ok(answer)) => {
                    context.note_answer();
                    return Ok((target, answer, limit));
                }
                Ok(Err(error)) => blame(error),
                Err(_) => return Err(target_error(ErrorType::ReadTimedout, "no answer to an upgrade")),
            };
            if !self.try_another_target(context, &error) {
                return Err(error);
            }
        }
    }

    /// A connection to a target, and how long it may take to answer.
    async fn connect(&self, context: &mut RequestContext) -> Result<(TcpStream, Duration)> {
        let Some((circuit, _)) = &context.circuit else {
            return Error::e_explain(ErrorType::InternalError, "a request without a circuit is upgraded");
        };
        let limit = circuit.limits.first_byte.unwrap_or(HANDSHAKE_TIME);
        match connect(circuit, &context.busy.connection, &mut context.attempts, &mut context.recording).await {
            Ok(target) => Ok((target, limit)),
            Err(error) => {
                let kind = match error {
                    ConnectError::TimedOut => ErrorType::ConnectTimedout,
                    ConnectError::NoTarget | ConnectError::NoAddress | ConnectError::Refused(_) => {
                        ErrorType::ConnectError
                    }
                    ConnectError::NoDescriptor(_) => {
                        return Err(Error::because(ErrorType::InternalError, "while connecting", error).into_in());
                    }
                };
                Err(Error::because(kind, "while connecting", error).into_up())
            }
        }
    }

    /// The target has not agreed: its answer is an ordinary one.
    async fn pass_on(
        &self,
        session: &mut Session,
        context: &mut RequestContext,
        target: TcpStream,
        read: &[u8],
        limit: Duration,
    ) -> Result<()> {
        let mut stream = SocketStream::from(target);
        stream.rewind(read);
        let stream: Stream = Box::new(stream);
        let mut target = TargetSession::new(stream);
        target.read_timeout = Some(limit);
        target.read_response().await.map_err(|error| error.into_up())?;
        let head = target.resp_header().cloned();
        let mut head = head.ok_or_else(|| target_error(ErrorType::InvalidHTTPHeader, "an answer without a head"))?;
        self.edit_response(session, &mut head, context);
        head.remove_header(&UPGRADE);
        // The client may have sent bytes of the protocol that it hoped for.
        session.set_keepalive(None);
        session.write_response_header(Box::new(head), false).await.map_err(|error| error.into_down())?;
        while let Some(bytes) = target.read_body_bytes().await.map_err(|error| error.into_up())? {
            if let Some(booking) = context.book(Way::ToClient, Some(&bytes)) {
                booking.pass().await;
            }
            session.write_response_body(Some(bytes), false).await.map_err(|error| error.into_down())?;
        }
        session.write_response_body(None, true).await.map_err(|error| error.into_down())
    }
}

/// The head that the target gets.
fn upgrade_request(session: &Session, context: &RequestContext) -> Result<BytesMut> {
    let original = session.req_header();
    let mut request = original.clone();
    let upgrade: Vec<HeaderValue> = request.headers.get_all(UPGRADE).iter().cloned().collect();
    for name in nominated(&original.headers) {
        request.remove_header(&name);
    }
    for name in [CONNECTION, CONTENT_LENGTH, TE, TRAILER, UPGRADE] {
        request.remove_header(&name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "http2-settings"] {
        request.remove_header(name);
    }
    forwarding::edit_request(session, &mut request, context)?;
    request.insert_header(CONNECTION, "Upgrade")?;
    for value in upgrade {
        request.append_header(UPGRADE, value)?;
    }
    let malformed = || Error::explain(ErrorType::InvalidHTTPHeader, "a request that cannot be written").into_down();
    http_req_header_to_wire(&request).ok_or_else(malformed)
}

/// The target has agreed: the request ends for pingora, which hands the client's stream back as if the next request
/// could follow. The tunnel takes everything of the request along.
fn leave(session: &mut Session, slot: &mut Option<RequestContext>, target: TcpStream, to_client: &[u8]) -> Result<()> {
    let internal = || Error::explain(ErrorType::InternalError, "a request without a circuit is upgraded");
    let RequestContext { mut recording, circuit, mut attempts, exit, busy, .. } = slot.take().ok_or_else(internal)?;
    let ((circuit, open), exit) = circuit.zip(exit).ok_or_else(internal)?;
    recording.protocol = Spoken::Upgraded;
    recording.status = Some(101);
    let switched = Switched {
        target,
        to_client: named(to_client, &recording.id),
        open,
        hold: attempts.take_hold(),
        busy,
        idle: circuit.limits.idle,
        bandwidth: circuit.bandwidth.clone(),
        recording: Box::new(recording),
    };
    exit.lock().replace(switched);
    session.set_keepalive(Some(0));
    Ok(())
}

/// The head of a `101`, and what came behind it, with the request's name below the status line.
fn named(answer: &[u8], id: &RequestId) -> Vec<u8> {
    let line_end = answer.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (line, rest) = answer.split_at_checked(line_end).unwrap_or((answer, &[]));
    [line, format!("{REQUEST_ID}: {id}\r\n").as_bytes(), rest].concat()
}

fn target_error(kind: ErrorType, context: &'static str) -> Box<Error> {
    Error::explain(kind, context).into_up()
}

/// Whatever went wrong in a handshake, it was the target's fault.
fn blame(error: HandshakeError) -> Box<Error> {
    let kind = match &error {
        HandshakeError::Send(_) => ErrorType::WriteError,
        HandshakeError::Head(HeadError::Ended) => ErrorType::ConnectionClosed,
        HandshakeError::Head(HeadError::Failed(_)) => ErrorType::ReadError,
        _ => ErrorType::InvalidHTTPHeader,
    };
    Error::because(kind, "while asking a target to switch protocols", error).into_up()
}
