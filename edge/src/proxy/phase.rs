//! Phases that have nothing to wait for.
//!
//! Every `async fn` of `ProxyHttp`, the default ones included, allocates a future for each request. A phase that is
//! written as a plain function and returns [`done`] does not, because a box of nothing takes no memory: 2 % of the
//! CPU of a small request.
//!
//! Invariant: a phase that is done makes no other phase wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::Result;

/// What `#[async_trait]` makes of an `async fn`.
pub(super) type Phase<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

struct Done;
struct GoOn;
struct Logged;

/// The phase has done its work, or could not.
pub(super) fn done<'a>(result: Result<()>) -> Phase<'a, Result<()>> {
    match result {
        Ok(()) => Box::pin(Done),
        Err(error) => Box::pin(std::future::ready(Err(error))),
    }
}

/// The phase has nothing against going on.
pub(super) fn go_on<'a>() -> Phase<'a, Result<bool>> {
    Box::pin(GoOn)
}

/// The phase that nothing follows is over.
pub(super) fn logged<'a>() -> Phase<'a, ()> {
    Box::pin(Logged)
}

impl Future for Done {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Future for GoOn {
    type Output = Result<bool>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<bool>> {
        Poll::Ready(Ok(true))
    }
}

impl Future for Logged {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
