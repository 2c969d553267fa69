//! HTTP/2 in front and towards targets.

mod ends;
mod first_bytes;
mod streams;
mod words;

use entities::circuit::{Backend, Circuit, Protocol};
use entities::target::Target;
use testkit::ports::free_port;

use crate::harness::by_port;

/// A circuit of HTTP/2 at a port of its own, and the port.
pub(crate) fn by_http2(name: &str, targets: Vec<Target>) -> (Circuit, u16) {
    let port = free_port();
    let circuit = Circuit { protocol: Protocol::H2, backend: Backend::H2, ..by_port(name, port, targets) };
    (circuit, port)
}
