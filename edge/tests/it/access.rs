//! Nobody gets in where they don't belong: private circuits, and what their targets see.

mod credentials;
mod forwarded;
mod refused;
mod streams;

use std::time::Duration;

use edge::Config;
use entities::circuit::Circuit;
use entities::ids::{CircuitId, Generation};
use entities::target::Target;
use entities::token::{Claims, SigningKey, TokenKind};
use testkit::clock::ManualClock;
use testkit::origin::{Origin, Request};
use testkit::raw::{RawAnswer, RawClient};

use crate::harness::{TestEdge, by_host};

/// When the tests' clock begins.
const START_S: i64 = 1_790_000_000;

/// An edge whose clock stands still, and the key of its coordinators.
pub(crate) struct Guarded {
    pub(crate) edge: TestEdge,
    clock: ManualClock,
    signer: SigningKey,
}

impl Guarded {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let clock = ManualClock::at_ms(START_S * 1_000);
        let signer = SigningKey::from_seed([1; 32]);
        let edge = TestEdge::start_with(|config| {
            config.clock = std::sync::Arc::new(clock.clone());
            change(config);
        })
        .await;
        edge.accept_key(&signer).await;
        Self { edge, clock, signer }
    }

    fn sign(&self, kind: TokenKind, circuit: &Circuit, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = Claims::of(kind, circuit, START_S + 60);
        change(&mut claims);
        self.signer.sign(kind, &claims).expect("signs")
    }

    /// A bearer token that opens `circuit` for a minute.
    fn token(&self, circuit: &Circuit) -> String {
        self.sign(TokenKind::Bearer, circuit, |_| {})
    }

    /// A ticket of the same life.
    pub(crate) fn ticket(&self, circuit: &Circuit) -> String {
        self.sign(TokenKind::Ticket, circuit, |_| {})
    }

    /// The cookie that a browser gets for a ticket, as `name=value`.
    async fn cookie(&self, circuit: &Circuit, name: &str) -> String {
        let answer = self.ask(name, &format!("/.appproxy/ticket?t={}", self.ticket(circuit)), "").await;
        assert_eq!(answer.status, 303, "{}", answer.head);
        let field = answer.field("set-cookie").expect("a cookie");
        field.split(';').next().expect("a pair").to_owned()
    }

    /// Asks for `path` at `<name>.apps.test` with more fields, each with its line end.
    async fn ask(&self, name: &str, path: &str, fields: &str) -> RawAnswer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {name}.apps.test\r\n{fields}\r\n")).await
    }

    async fn send(&self, request: &str) -> RawAnswer {
        let mut client = RawClient::connect(self.edge.address).await;
        client.send(request).await;
        client.answer().await
    }
}

/// A private circuit at `<name>.apps.test`.
fn private(name: &str, targets: Vec<Target>) -> Circuit {
    let mut circuit = by_host(name, targets);
    circuit.access.public = false;
    circuit
}

/// The same circuit as it is after its access rules have changed.
fn with_new_rules(circuit: &Circuit) -> Circuit {
    Circuit { access_generation: Generation(circuit.access_generation.0 + 1), ..circuit.clone() }
}

/// The same circuit after it was closed and opened again.
fn reborn(circuit: &Circuit) -> Circuit {
    Circuit { id: CircuitId::random(), ..circuit.clone() }
}

/// What the origin received last.
fn last(origin: &Origin) -> Request {
    origin.requests().last().expect("it arrived").clone()
}

const MINUTE: Duration = Duration::from_secs(60);
