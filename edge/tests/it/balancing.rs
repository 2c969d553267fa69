//! Each strategy over each protocol.

use std::collections::HashMap;

use entities::balance::{LoadBalancing, Strategy};
use entities::circuit::{Backend, Circuit, Protocol};
use entities::target::Target;
use testkit::client::client;
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;
use testkit::websocket::WebSocket;

use crate::harness::{TestEdge, at, by_host, by_port, name_of};
use crate::http2::by_http2;

/// Weights of three targets.
const WEIGHTS: [u16; 3] = [4, 1, 1];

/// Rounds in which every target gets as many requests as its weight says.
const ROUNDS: usize = 4;

const STRATEGIES: [Strategy; 3] = [Strategy::RoundRobin, Strategy::Weighted, Strategy::LeastConnections];

/// How many of so many requests each target gets that are open at the same time.
fn shares(strategy: Strategy) -> [usize; 3] {
    match strategy {
        Strategy::RoundRobin => [2 * ROUNDS; 3],
        Strategy::Weighted | Strategy::LeastConnections => [4 * ROUNDS, ROUNDS, ROUNDS],
    }
}

fn weighted(mut circuit: Circuit, strategy: Strategy) -> Circuit {
    circuit.load_balancing = LoadBalancing { strategy };
    for (target, weight) in circuit.targets.iter_mut().zip(WEIGHTS) {
        target.weight = weight;
    }
    circuit
}

async fn origins() -> [Origin; 3] {
    [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await]
}

fn targets(origins: &[Origin; 3]) -> Vec<Target> {
    origins.iter().map(Origin::target).collect()
}

fn counted(names: &[String]) -> [usize; 3] {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    names.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    ["a", "b", "c"].map(|name| counts.get(name).copied().unwrap_or(0))
}

#[tokio::test]
async fn each_strategy_spreads_http_requests() {
    for strategy in STRATEGIES {
        let (edge, origins) = (TestEdge::start().await, origins().await);
        edge.serve(&weighted(by_host("lab", targets(&origins)), strategy)).await;
        // All of them at a time, so that what is open counts.
        let mut asking = Vec::new();
        for number in 1..=6 * ROUNDS {
            let url = edge.url("lab.apps.test", "/slow");
            asking.push(tokio::spawn(async move { client().get(url).send().await.expect("answered") }));
            let received = || origins.iter().map(|origin| origin.count("/slow")).sum::<usize>();
            testkit::wait::wait_until("the request", async || received() == number).await;
        }
        assert_eq!(origins.each_ref().map(|origin| origin.count("/slow")), shares(strategy), "{strategy:?}");
        origins.iter().for_each(|origin| (0..6 * ROUNDS).for_each(|_| origin.release()));
        let mut names = Vec::new();
        for asked in asking {
            names.push(name_of(asked.await.expect("no panic")).await);
        }
        assert_eq!(counted(&names), shares(strategy), "{strategy:?}");
    }
}

#[tokio::test]
async fn each_strategy_spreads_websockets() {
    for strategy in STRATEGIES {
        let (edge, origins) = (TestEdge::start().await, origins().await);
        edge.serve(&weighted(by_host("lab", targets(&origins)), strategy)).await;
        let mut open = Vec::new();
        for _ in 0..6 * ROUNDS {
            let mut socket = WebSocket::open(edge.address, "lab.apps.test", "/ws").await.expect("upgraded");
            assert_eq!(socket.echo("hello").await.as_deref(), Some("hello"));
            open.push(socket);
        }
        assert_eq!(origins.each_ref().map(|origin| origin.count("/ws")), shares(strategy), "{strategy:?}");
    }
}

#[tokio::test]
async fn each_strategy_spreads_byte_streams() {
    for strategy in STRATEGIES {
        let (edge, origins, port) = (TestEdge::start().await, origins().await, free_port());
        let circuit =
            Circuit { protocol: Protocol::Tcp, backend: Backend::Tcp, ..by_port("lab", port, targets(&origins)) };
        edge.serve(&weighted(circuit, strategy)).await;
        let mut open = Vec::new();
        for _ in 0..6 * ROUNDS {
            let mut stream = RawClient::connect(at(port)).await;
            assert_eq!(stream.get("/stream", "anything").await.status, 200);
            open.push(stream);
        }
        assert_eq!(origins.each_ref().map(|origin| origin.count("/stream")), shares(strategy), "{strategy:?}");
    }
}

#[tokio::test]
async fn each_strategy_spreads_streams_of_http_2() {
    for strategy in STRATEGIES {
        let edge = TestEdge::start().await;
        let origins = [Http2Origin::start("a").await, Http2Origin::start("b").await, Http2Origin::start("c").await];
        let (circuit, port) = by_http2("lab", origins.iter().map(Http2Origin::target).collect());
        edge.serve(&weighted(circuit, strategy)).await;
        let mut client = Http2Client::connect(at(port)).await;
        let mut open = Vec::new();
        for number in 1..=6 * ROUNDS {
            open.push(client.begin(get("/hold"), true).await.expect("begun"));
            let received = || origins.iter().map(|origin| origin.requests().len()).sum::<usize>();
            testkit::wait::wait_until("the stream", async || received() == number).await;
        }
        assert_eq!(origins.each_ref().map(|origin| origin.requests().len()), shares(strategy), "{strategy:?}");
    }
}

/// Four replicas of which one dies: the others share what it had.
#[tokio::test]
async fn a_target_that_dies_costs_no_request_and_its_share_goes_to_all_others() {
    let (edge, origins, dying) = (TestEdge::start().await, origins().await, Origin::start("dying").await);
    let mut all = targets(&origins);
    all.push(dying.target());
    edge.serve(&by_host("lab", all)).await;
    let ask = async |count: usize| {
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(name_of(edge.get("lab.apps.test", "/").await).await);
        }
        names
    };
    assert_eq!(counted(&ask(8).await), [2, 2, 2]);
    drop(dying);
    // Until it is out, requests that were for it are passed on.
    ask(16).await;
    assert_eq!(edge.metric("appproxy_edge_targets_out_total").await, 1.0);
    assert_eq!(counted(&ask(30).await), [10, 10, 10]);
    assert_eq!(edge.metric("appproxy_edge_target_faults_total{reason=\"connect\"}").await, 3.0);
}
