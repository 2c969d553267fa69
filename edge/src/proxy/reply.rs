//! Writes answers of the edge's own.
//!
//! Invariant: an answer to `HEAD` has the fields of the answer to `GET` and no content (RFC 9110 §9.3.2), and a call
//! of gRPC is answered in gRPC's words whatever the circuit says that it speaks.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode, Version};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora_proxy::Session;

use crate::decide::RequestContext;
use crate::record::EndedBy;
use crate::refusal::Refused;
use crate::reply::{Problem, Reply, is_grpc, wants_html};
use crate::request_id::{REQUEST_ID, RequestId};

/// Whether an answer has been begun.
pub(super) fn has_begun(session: &Session) -> bool {
    status(session).is_some()
}

/// The status of the answer that has been begun: an informational one announces an answer and is none (RFC 9110 §15.2).
pub(super) fn status(session: &Session) -> Option<StatusCode> {
    session.response_written().map(|written| written.status).filter(|status| !status.is_informational())
}

/// Turns a request away, and notes that.
pub(super) async fn refuse(session: &mut Session, mut refused: Refused, context: &mut RequestContext) -> Result<()> {
    let (problem, instead) = (refused.problem, refused.instead.take());
    context.recording.refuse(refused);
    if let Some(instead) = instead {
        return send(session, *instead, context).await;
    }
    send_problem(session, problem, context.must_close_for(problem), context).await
}

/// Answers what the edge itself was asked.
pub(super) async fn answer(session: &mut Session, reply: Reply, context: &mut RequestContext) -> Result<()> {
    context.recording.end(EndedBy::Answered, None);
    send(session, reply, context).await
}

/// Says what is wrong in the way that the client understands, unless an answer has been begun already.
async fn send_problem(
    session: &mut Session,
    problem: Problem,
    must_close: bool,
    context: &mut RequestContext,
) -> Result<()> {
    let headers = &session.req_header().headers;
    if is_grpc(headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)) {
        return send_status(session, problem, context.id()).await;
    }
    let answer = problem.reply(wants_html(headers.get(ACCEPT).map(HeaderValue::as_bytes)), context.id());
    send(session, if must_close { answer.closing() } else { answer }, context).await
}

/// An answer of gRPC without content: `Trailers-Only` in its specification.
async fn send_status(session: &mut Session, problem: Problem, id: &RequestId) -> Result<()> {
    if has_begun(session) {
        return Ok(());
    }
    let (status, message) = problem.grpc();
    let mut header = ResponseHeader::build(StatusCode::OK, Some(5))?;
    header.insert_header(CONTENT_TYPE, "application/grpc")?;
    header.insert_header(CACHE_CONTROL, "no-store")?;
    header.insert_header(REQUEST_ID, id.value())?;
    header.insert_header("grpc-status", status)?;
    header.insert_header("grpc-message", message)?;
    if session.req_header().version != Version::HTTP_2 {
        session.set_keepalive(None);
        header.insert_header(CONTENT_LENGTH, 0)?;
    }
    // The only call that ends a stream of HTTP/2 with its head.
    let head = vec![HttpTask::Header(Box::new(header), true)];
    session.write_response_tasks(head).await.map_err(|error| error.into_down())?;
    Ok(())
}

/// Sends `reply`, unless an answer has been begun already.
async fn send(session: &mut Session, reply: Reply, context: &mut RequestContext) -> Result<()> {
    if has_begun(session) {
        return Ok(());
    }
    if reply.must_close {
        session.set_keepalive(None);
    }
    let is_head = session.req_header().method == Method::HEAD;
    let mut header = ResponseHeader::build(reply.status, Some(6))?;
    header.insert_header(CONTENT_TYPE, reply.content_type)?;
    header.insert_header(CONTENT_LENGTH, reply.body.len())?;
    header.insert_header(CACHE_CONTROL, "no-store")?;
    header.insert_header(REQUEST_ID, context.id().value())?;
    for (name, value) in reply.fields {
        header.insert_header(name, value)?;
    }
    // Pingora blames the client where it writes the answer of a target, and nobody where it writes one of the edge.
    session.write_response_header(Box::new(header), is_head).await.map_err(|error| error.into_down())?;
    // As of a target's answer: it may be cut.
    context.recording.status = Some(reply.status.as_u16());
    if !is_head {
        context.recording.bytes_to_client += reply.body.len() as u64;
        session.write_response_body(Some(reply.body), true).await.map_err(|error| error.into_down())?;
    }
    Ok(())
}
