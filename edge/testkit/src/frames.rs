//! A client of HTTP/2 that sends any frames, and sees those that come back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wait::within;

/// Kinds of frames (RFC 9113 §6).
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames (RFC 9113 §6).
pub mod flag {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// The setting SETTINGS_INITIAL_WINDOW_SIZE.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A connection.
#[derive(Debug)]
pub struct FrameClient {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which kind it is.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl FrameClient {
    /// Connects, and says the preface and these settings.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connects"), settings).await
    }

    /// The same on a connection that stands.
    pub async fn over(stream: TcpStream, settings: &[(u16, u32)]) -> Self {
        stream.set_nodelay(true).expect("a socket");
        let mut client = Self { stream, buffer: Vec::new() };
        let payload: Vec<u8> = settings.iter().flat_map(|(id, value)| setting(*id, *value)).collect();
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(kind::SETTINGS, 0, 0, &payload)].concat();
        assert!(client.send(&hello).await, "the preface");
        client
    }

    /// Sends bytes; whether the other side took them.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        within("room to write", self.stream.write_all(bytes)).await.is_ok()
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            match within("a frame, or the end", self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Frames that have come already.
    pub fn take(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.buffer.get(..9)?.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Waits for the first frame of this kind.
    pub async fn wait_for(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Waits for the end of the connection, and says why it ended if the other side did: the code of its `GOAWAY`.
    pub async fn wait_for_goaway(&mut self) -> Option<u32> {
        let goaway = self.wait_for(kind::GOAWAY).await?;
        while self.next().await.is_some() {}
        Some(u32::from_be_bytes(goaway.payload.get(4..8)?.try_into().ok()?))
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// One setting of a SETTINGS frame.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// Fields as literals without index and without Huffman's code (RFC 7541 §6.2.2), whatever they say.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, text.len());
            bytes.extend_from_slice(text);
        }
    }
    bytes
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn integer(bytes: &mut Vec<u8>, number: usize) {
    const PREFIX: usize = 127;
    if number < PREFIX {
        bytes.push(number as u8);
        return;
    }
    bytes.push(PREFIX as u8);
    let mut rest = number - PREFIX;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// The head of `GET` of `path`.
pub fn get(path: &str) -> Vec<u8> {
    block(&[
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"lab.apps.test"),
        (b":path", path.as_bytes()),
    ])
}

impl Frame {
    /// The code of a RST_STREAM.
    pub fn reset(&self) -> Option<u32> {
        let code = self.payload.get(..4).filter(|_| self.kind == kind::RST_STREAM)?;
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }

    /// The status in the first head that a server has sent on its connection.
    pub fn status(&self) -> Option<u16> {
        match self.payload.first().filter(|_| self.kind == kind::HEADERS)? {
            0x88 => Some(200),
            0x89 => Some(204),
            0x8c => Some(400),
            0x8d => Some(404),
            0x8e => Some(500),
            // A literal whose name is `:status` (RFC 7541 §6.2).
            0x48 | 0x08 => {
                let length = *self.payload.get(1)?;
                let text = self.payload.get(2..2 + usize::from(length & 0x7f))?;
                if length & 0x80 == 0 { std::str::from_utf8(text).ok()?.parse().ok() } else { digits(text) }
            }
            _ => None,
        }
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): 0, 1 and 2 have five bits, the others six.
fn digits(bytes: &[u8]) -> Option<u16> {
    let bits: Vec<u16> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |number, bit| number * 2 + bit);
    let (mut status, mut at) = (0, 0);
    for _ in 0..3 {
        let short = number(bits.get(at..at + 5)?);
        let (digit, length) =
            if short < 3 { (short, 5) } else { (number(bits.get(at..at + 6)?).checked_sub(0b011001)? + 3, 6) };
        status = status * 10 + digit;
        at += length;
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_either_code() {
        let head = |payload: &[u8]| Frame { kind: kind::HEADERS, flags: 4, stream: 1, payload: payload.to_vec() };
        assert_eq!(head(&[0x8c]).status(), Some(400));
        assert_eq!(head(b"\x48\x03431").status(), Some(431));
        // 011010 011001 00001, and ones to the end of the byte.
        assert_eq!(head(&[0x48, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111]).status(), Some(431));
    }

    #[test]
    fn long_literals_say_how_long_they_are() {
        let block = block(&[(b"x", &[b'a'; 300])]);
        assert_eq!(block[..5], [0, 1, b'x', 127, 173]);
        assert_eq!(block.len(), 6 + 300);
    }
}
