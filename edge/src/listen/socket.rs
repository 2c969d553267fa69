//! Binds the sockets of dynamic ports.
//!
//! Invariant: what is wrong with a port shows when it is bound, never later in an accept loop.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::descriptors;
use entities::worker::RefusalCode;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted. A port has one accept loop that does nothing else.
const BACKLOG: i32 = 1024;

/// A socket that listens at `address`. On Linux, reusing an address takes over from closed connections only, never
/// from another socket that listens.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What the coordinator is told about a port that would not bind.
pub(super) fn refusal(error: &io::Error) -> RefusalCode {
    match error.kind() {
        io::ErrorKind::AddrInUse => RefusalCode::PortInUse,
        io::ErrorKind::PermissionDenied => RefusalCode::PortNotAllowed,
        _ if descriptors::are_used_up(error) => RefusalCode::OutOfDescriptors,
        _ => RefusalCode::PortFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_socket_listens_on_is_in_use() {
        let first = listen("127.0.0.1:0".parse().expect("valid")).expect("a free port");
        let error = listen(first.local_addr().expect("bound")).expect_err("in use");
        assert_eq!(refusal(&error), RefusalCode::PortInUse);
    }

    #[test]
    fn every_error_has_a_code() {
        let code = |number| refusal(&io::Error::from_raw_os_error(number));
        assert_eq!(code(13), RefusalCode::PortNotAllowed);
        assert_eq!(code(24), RefusalCode::OutOfDescriptors);
        assert_eq!(code(99), RefusalCode::PortFailed);
    }
}
