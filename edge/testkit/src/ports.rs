//! Port numbers for tests.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// Below the range that the operating system gives to outgoing connections, so that nothing takes one in between.
const FIRST: u16 = 12_000;
const COUNT: u16 = 16_000;

/// Processes of one test run start at different places.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that is free and that nobody else in this process gets.
pub fn free_port() -> u16 {
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("smaller than COUNT");
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = (u32::from(start) + u32::from(step) * 7) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset).expect("smaller than COUNT");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A port that refuses connections for as long as it is held: bound, but not listening.
#[derive(Debug)]
pub struct DeadPort(TcpSocket);

impl DeadPort {
    /// Takes one.
    pub fn hold() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("valid")).expect("a free port");
        Self(socket)
    }

    /// Its number.
    pub fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }
}
