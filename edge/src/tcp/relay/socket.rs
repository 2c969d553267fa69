//! Takes a socket out of something that keeps it to itself.
#![allow(unsafe_code, reason = "a descriptor of somebody else's can be borrowed in no other way")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, SockRef, Type};
use tokio::net::TcpStream;

/// The TCP socket of `owner`, under a descriptor of its own: `owner` may be dropped and the connection goes on.
///
/// # Errors
/// If there is no descriptor left, or if that is no TCP socket.
pub(crate) fn duplicate(owner: &impl AsRawFd) -> io::Result<TcpStream> {
    let descriptor = owner.as_raw_fd();
    if descriptor < 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: `owner` owns the descriptor and is borrowed until the end of this function, so it stays open for as long as
    // the borrow made here is used; -1, which a borrow must not be, is excluded above.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let owned = borrowed.try_clone_to_owned()?;
    let socket = SockRef::from(&owned);
    let is_tcp = matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6) && socket.r#type()? == Type::STREAM;
    if !is_tcp {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let stream = std::net::TcpStream::from(owned);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
