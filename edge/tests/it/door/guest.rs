//! A client at a place, in the words of whatever is spoken there.

use std::io;

use h2::Reason;
use h2::client::ResponseFuture;
use testkit::http2::{Http2Client, get};
use testkit::raw::{RawAnswer, RawClient};
use testkit::wait::wait_until;

use super::double::Line;
use super::place::{Kind, Place};

const HELLO: &[u8] = b"hello";

/// One connection.
#[derive(Debug)]
pub(super) struct Guest {
    kind: Kind,
    host: String,
    wire: Wire,
    /// Whether it has become a tunnel.
    is_tunnel: bool,
    /// The answer that it waits for, over HTTP/2.
    awaited: Option<ResponseFuture>,
}

#[derive(Debug)]
enum Wire {
    Raw(RawClient<Line>),
    Http2(Http2Client),
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The target has answered.
    Served,
    /// The edge has, with this status.
    Status(u16),
    /// `GOAWAY` with `ENHANCE_YOUR_CALM`.
    Calm,
    /// The connection was reset.
    Reset,
    /// The connection ended otherwise.
    Ended(String),
}

// === impl Outcome ===

impl Outcome {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset => Self::Reset,
            _ => Self::Ended(error.to_string()),
        }
    }

    fn of_status(status: u16) -> Self {
        if status == 200 { Self::Served } else { Self::Status(status) }
    }
}

// === impl Guest ===

impl Guest {
    /// Begins to speak on `line`.
    pub(super) async fn over(line: Line, kind: Kind, host: &str) -> Self {
        let wire = match kind {
            Kind::Http2 => Wire::Http2(Http2Client::over(line).await),
            _ => Wire::Raw(RawClient::over(line)),
        };
        Self { kind, host: host.to_owned(), wire, is_tunnel: false, awaited: None }
    }

    /// The connection, where it is not HTTP/2.
    pub(super) fn raw(&mut self) -> &mut RawClient<Line> {
        match &mut self.wire {
            Wire::Raw(client) => client,
            Wire::Http2(_) => panic!("HTTP/2 is spoken here"),
        }
    }

    /// Asks once: for an answer, for an upgrade and an echo, for an echo.
    pub(super) async fn ask(&mut self) -> Outcome {
        if self.kind == Kind::Bytes || self.is_tunnel {
            return self.echo().await;
        }
        let (kind, host) = (self.kind, self.host.clone());
        let client = match &mut self.wire {
            Wire::Http2(client) => {
                return match client.ask(get("/")).await {
                    Ok(answer) => Outcome::of_status(answer.status.as_u16()),
                    Err(error) if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) => Outcome::Calm,
                    Err(error) => Outcome::Ended(error.to_string()),
                };
            }
            Wire::Raw(client) => client,
        };
        let request =
            if kind.is_tunnel() { kind.upgrade(&host) } else { format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n") };
        if let Err(error) = client.try_send(request).await {
            return Outcome::of(&error);
        }
        match client.try_answer().await {
            Some(RawAnswer { status: 101, .. }) if kind.is_tunnel() => {
                self.is_tunnel = true;
                self.echo().await
            }
            Some(answer) => Outcome::of_status(answer.status),
            None => Outcome::Ended("no answer".to_owned()),
        }
    }

    async fn echo(&mut self) -> Outcome {
        let client = self.raw();
        let echoed = match client.try_send(HELLO).await {
            Ok(()) => client.exactly(HELLO.len()).await,
            Err(error) => Err(error),
        };
        match echoed {
            Ok(bytes) if bytes == HELLO => Outcome::Served,
            Ok(bytes) => panic!("{} came back", bytes.escape_ascii()),
            Err(error) => Outcome::of(&error),
        }
    }

    /// What it hears as one who is turned away. A client of bytes says nothing before: what is not read makes the system
    /// reset the connection, whatever the edge does.
    pub(super) async fn ask_in_vain(&mut self) -> Outcome {
        if self.kind != Kind::Bytes {
            return self.ask().await;
        }
        match self.raw().exactly(1).await {
            Ok(byte) => panic!("{} instead of an end", byte.escape_ascii()),
            Err(error) => Outcome::of(&error),
        }
    }

    /// Asks once, and is served.
    pub(super) async fn expect_served(&mut self, what: &str) {
        assert_eq!(self.ask().await, Outcome::Served, "{what}");
    }

    /// Becomes busy, and stays so until [`Guest::finish`].
    pub(super) async fn begin(&mut self, place: &Place) {
        if self.kind.is_relayed() {
            return self.expect_served("a relay that begins").await;
        }
        let before = place.requests().len();
        match &mut self.wire {
            Wire::Http2(client) => {
                let (answer, _) = client.begin(get("/slow"), true).await.expect("room for a stream");
                self.awaited = Some(answer);
            }
            Wire::Raw(client) => {
                client.send(format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", self.host)).await;
            }
        }
        wait_until("the slow request", async || place.requests().len() > before).await;
    }

    /// What it is busy with goes on, and comes to its end.
    pub(super) async fn finish(&mut self, place: &Place) {
        if self.kind.is_relayed() {
            return self.expect_served("a relay that goes on").await;
        }
        place.release();
        let status = match &mut self.wire {
            Wire::Http2(_) => {
                let answer = self.awaited.take().expect("a request");
                Http2Client::read(answer).await.expect("a whole answer").status.as_u16()
            }
            Wire::Raw(client) => client.answer().await.status,
        };
        assert_eq!(status, 200, "what it was busy with");
    }

    /// Waits until what it is busy with is cut, and the connection with it.
    pub(super) async fn expect_cut(mut self) {
        match &mut self.wire {
            Wire::Http2(_) => {
                let answer = self.awaited.take().expect("a request");
                Http2Client::read(answer).await.expect_err("no whole answer");
            }
            Wire::Raw(client) => {
                let read = client.exactly(1).await;
                assert!(read.is_err(), "{read:?} instead of an end");
            }
        }
        self.wait_for_end().await;
    }

    /// Waits until the other side ends the connection.
    pub(super) async fn wait_for_end(self) {
        match self.wire {
            Wire::Raw(mut client) => client.wait_for_end().await,
            // Whether it ends with an error is not asked here.
            Wire::Http2(client) => drop(client.wait_for_end().await),
        }
    }

    /// Asks for `path` with more fields, each with its line end, where requests are answered.
    pub(super) async fn fetch(&mut self, path: &str, fields: &[(&str, &str)]) -> (u16, Option<String>) {
        match &mut self.wire {
            Wire::Http2(client) => {
                let mut request = get(path);
                for (name, value) in fields {
                    let name: http::HeaderName = name.parse().expect("a name");
                    request.headers_mut().insert(name, value.parse().expect("a value"));
                }
                let answer = client.ask(request).await.expect("answered");
                let cookie = answer.headers.get("set-cookie").map(|value| value.to_str().expect("text").to_owned());
                (answer.status.as_u16(), cookie)
            }
            Wire::Raw(client) => {
                let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                client.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.host)).await;
                let answer = client.answer().await;
                (answer.status, answer.field("set-cookie").map(str::to_owned))
            }
        }
    }
}
