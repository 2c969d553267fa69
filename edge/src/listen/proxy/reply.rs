//! Writes answers of the edge's own.
//!
//! Invariant: an answer to `HEAD` has the fields of the answer to `GET` and no content (RFC 9110 §9.3.2).

use http::Method;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::reply::Reply;

/// Sends `reply`, unless an answer has been begun already.
pub(super) async fn send(session: &mut Session, reply: Reply) -> Result<()> {
    if session.response_written().is_some_and(|written| !written.status.is_informational()) {
        return Ok(());
    }
    if reply.must_close {
        session.set_keepalive(None);
    }
    let is_head = session.req_header().method == Method::HEAD;
    let mut header = ResponseHeader::build(reply.status, Some(5))?;
    header.insert_header(CONTENT_TYPE, reply.content_type)?;
    header.insert_header(CONTENT_LENGTH, reply.body.len())?;
    header.insert_header(CACHE_CONTROL, "no-store")?;
    if let Some((name, value)) = reply.field {
        header.insert_header(name, value)?;
    }
    session.write_response_header(Box::new(header), is_head).await?;
    if !is_head {
        session.write_response_body(Some(reply.body), true).await?;
    }
    Ok(())
}
