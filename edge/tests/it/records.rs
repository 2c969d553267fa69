//! Whatever ends has exactly one record, which says what ended it and whose fault that was.
//!
//! Each test is a table: a name, the records that are wanted, and how to provoke them. Each case is a client with an
//! address of its own, so that cases run side by side. Records are counted after the edge has ended: none can follow.

mod capture;
mod clients;
mod cuts;
mod http2;
mod introductions;
mod lines;
mod pressure;
mod refusals;
mod streams;
mod targets;
mod tunnels;

use std::any::Any;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use entities::circuit::{Backend, Circuit, Protocol};
use entities::target::Target;
use futures_util::future::join_all;
use testkit::ports::free_port;
use testkit::wait::wait_until;

use crate::harness::{TestEdge, at, by_host, by_port};
use crate::peer::{Peer, PeerConnection};
use capture::{Line, watch};

/// Stands in every query, ticket and token of these tests, and must stand in no line.
const SECRET: &str = "s3cret";

/// How long a record may take that is wanted.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a case leaves open until its records are there.
type Open = Box<dyn Any>;

/// One way to end.
struct Case<'a> {
    name: &'static str,
    /// A row for each record, as [`Line::row`] writes it; `*` stands for any value.
    wanted: Vec<String>,
    client: IpAddr,
    provoke: Pin<Box<dyn Future<Output = Open> + 'a>>,
}

/// Cases that were provoked.
struct Provoked {
    cases: Vec<(&'static str, Vec<String>, IpAddr)>,
    open: Vec<Open>,
}

/// A case of the table. What `provoke` gives back stays open until the records are there.
fn case<'a, T: 'static>(name: &'static str, wanted: &[&str], provoke: impl AsyncFnOnce(IpAddr) -> T + 'a) -> Case<'a> {
    let client = watch();
    let provoke = Box::pin(async move { Box::new(provoke(client).await) as Open });
    Case { name, wanted: wanted.iter().map(|row| (*row).to_owned()).collect(), client, provoke }
}

/// Provokes all cases side by side.
async fn provoke(cases: Vec<Case<'_>>) -> Provoked {
    let (mut kept, mut provoking) = (Vec::new(), Vec::new());
    for Case { name, wanted, client, provoke } in cases {
        kept.push((name, wanted, client));
        provoking.push(provoke);
    }
    Provoked { cases: kept, open: join_all(provoking).await }
}

// === impl Provoked ===

impl Provoked {
    /// Waits for the records, ends the edge, and proves that there are exactly those.
    async fn prove(self, edge: TestEdge) {
        self.wait().await;
        let Self { cases, open } = self;
        drop(open);
        edge.stop().await;
        compare(&cases);
    }

    /// The same where the end of the edge is what ends all.
    async fn prove_after(self, end: impl Future) {
        end.await;
        self.wait().await;
        compare(&self.cases);
    }

    /// Waits for the records and proves that no line shows one of these.
    async fn show_no(&self, secrets: &[&str]) {
        self.wait().await;
        for line in self.cases.iter().flat_map(|(_, _, client)| Line::whole_log_of(*client)) {
            line.assert_shows_none(secrets);
        }
    }

    async fn wait(&self) {
        let are_there = |(_, wanted, client): &(_, Vec<String>, _)| Line::all_of(*client).len() >= wanted.len();
        let waiting = wait_until("all records", async || self.cases.iter().all(are_there));
        // What is missing is named below.
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
    }
}

fn compare(cases: &[(&'static str, Vec<String>, IpAddr)]) {
    let mut faults = String::new();
    for (name, wanted, client) in cases {
        let lines = Line::all_of(*client);
        let rows: Vec<String> = lines.iter().map(Line::row).collect();
        println!("{name:60} {}", rows.join(" | "));
        let are_wanted = rows.len() == wanted.len() && rows.iter().zip(wanted).all(|(row, wanted)| fits(row, wanted));
        if !are_wanted {
            let errors: Vec<&str> = lines.iter().filter_map(|line| line.get("error")).collect();
            faults.push_str(&format!("{name}:\n  wanted {wanted:?}\n  got    {rows:?} {errors:?}\n"));
        }
        lines.iter().for_each(Line::assert_sound);
        Line::whole_log_of(*client).iter().for_each(|line| line.assert_shows_none(&[SECRET, "?"]));
    }
    assert!(faults.is_empty(), "records that are not as wanted:\n{faults}");
}

/// Whether a row is what is wanted, word by word.
fn fits(row: &str, wanted: &str) -> bool {
    let (words, wanted): (Vec<&str>, Vec<&str>) = (row.split(' ').collect(), wanted.split(' ').collect());
    words.len() == wanted.len()
        && words.iter().zip(wanted).all(|(word, wanted)| match (wanted.split_once("/"), word.split_once("/")) {
            (Some((one, two)), Some((to_target, to_client))) => {
                (one == "*" || one == to_target) && (two == "*" || two == to_client)
            }
            _ => wanted == "*" || wanted == *word,
        })
}

// What many cases need.

/// An edge that does not wait for what is still open when it ends.
async fn start_with(change: impl FnOnce(&mut edge::Config)) -> TestEdge {
    TestEdge::start_with(|config| {
        config.shutdown_drain = Duration::from_millis(500);
        change(config);
    })
    .await
}

/// A request without content for the circuit at `<name>.apps.test`.
fn request(method: &str, name: &str, path: &str, fields: &str) -> String {
    format!("{method} {path}?q={SECRET} HTTP/1.1\r\nHost: {name}.apps.test\r\n{fields}\r\n")
}

/// A client that has sent the `request`.
async fn sent(from: IpAddr, edge: &TestEdge, request: &str) -> PeerConnection {
    let mut client = PeerConnection::connect_from(from, edge.address).await;
    client.send(request).await;
    client
}

/// The same, and the head of the answer was read.
async fn asked(from: IpAddr, edge: &TestEdge, request: &str) -> PeerConnection {
    let mut client = sent(from, edge, request).await;
    client.head().await;
    client
}

/// A target that does what its case says, behind a circuit of its own at `<name>.apps.test`.
async fn peer_at(edge: &TestEdge, name: &str, change: impl FnOnce(&mut Circuit)) -> Peer {
    let peer = Peer::start().await;
    let mut circuit = by_host(name, vec![peer.target()]);
    change(&mut circuit);
    edge.serve(&circuit).await;
    peer
}

/// A circuit of bytes and its port.
fn bytes_circuit(name: &str, targets: Vec<Target>) -> (Circuit, u16) {
    let port = free_port();
    let circuit = Circuit { protocol: Protocol::Tcp, backend: Backend::Tcp, ..by_port(name, port, targets) };
    (circuit, port)
}

/// A client at a port that is turned away without a word.
async fn turned_away(from: IpAddr, port: u16) -> PeerConnection {
    let mut client = PeerConnection::connect_from(from, at(port)).await;
    assert_eq!(client.until_end().await, b"");
    client
}
