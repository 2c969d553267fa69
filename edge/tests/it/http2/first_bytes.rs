//! What a connection says first.

use testkit::client::keep_alive_client;
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;
use testkit::wait::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::by_http2;
use crate::harness::{TestEdge, at, by_host, by_port};

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sends bytes, and waits until the other side ends the connection.
async fn answer_to(port: u16, bytes: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(at(port)).await.expect("connects");
    // The other side may have had enough before all is sent.
    let _ = socket.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    // A reset ends it as well.
    let _ = within("the end of the connection", socket.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn http_1_is_served_at_the_same_port() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let client = keep_alive_client();
    for _ in 0..2 {
        let answer = client.get(format!("http://x.test:{port}/")).send().await.expect("answered");
        assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_11, 200));
        assert_eq!(answer.text().await.expect("text"), "lab");
    }
    assert_eq!(origin.requests()[1].headers["via"], "1.1 appproxy");
}

#[tokio::test]
async fn the_shortest_request_of_http_1_0_is_served_at_the_same_port() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut client = RawClient::connect(at(port)).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    let request = &origin.requests()[0];
    assert_eq!(request.headers["via"], "1.0 appproxy");
    let authority = request.uri.authority().map(ToString::to_string);
    assert_eq!(authority, Some(format!("127.0.0.1:{port}")), "the address that the client connected to");
}

#[tokio::test]
async fn a_preface_in_pieces_is_a_preface() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let mut socket = TcpStream::connect(at(port)).await.expect("connects");
    socket.set_nodelay(true).expect("a socket");
    for byte in PREFACE.as_bytes() {
        socket.write_all(&[*byte]).await.expect("sends");
        tokio::task::yield_now().await;
    }
    // An empty SETTINGS frame; the answer begins with one.
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("sends");
    let mut head = [0; 9];
    within("a frame", socket.read_exact(&mut head)).await.expect("open");
    assert_eq!(head[3], 4, "SETTINGS");
}

#[tokio::test]
async fn what_is_no_preface_and_no_request_ends_in_time() {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let almost = format!("{}XX\r\n\r\n", &PREFACE[..18]);
    let no_frames = format!("{PREFACE}{}", "no frame".repeat(40_000));
    let (garbage, almost, broken, slow) = tokio::join!(
        answer_to(port, "\u{1}\u{2}\u{3}\r\n\r\n"),
        answer_to(port, &almost),
        answer_to(port, &no_frames),
        answer_to(port, "PRI * H"),
    );
    assert!(garbage.is_empty() || garbage.starts_with(b"HTTP/1.1 400"), "{garbage:?}");
    assert!(almost.starts_with(b"HTTP/1.1 505"), "{almost:?}");
    // It may say GOAWAY, after its SETTINGS.
    assert!(broken.is_empty() || broken.get(3) == Some(&4), "{broken:?}");
    assert!(slow.is_empty(), "{slow:?}");
    let mut client = Http2Client::connect(at(port)).await;
    assert_eq!(client.ask(get("/")).await.expect("answered").body, "lab");
}

#[tokio::test]
async fn http2_is_not_spoken_at_the_traffic_port_nor_at_ports_of_other_circuits() {
    let (edge, origin, port) = (TestEdge::start().await, Origin::start("lab").await, free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.serve(&by_port("port", port, vec![origin.target()])).await;
    for port in [edge.address.port(), port] {
        let answer = answer_to(port, PREFACE).await;
        assert!(answer.starts_with(b"HTTP/1.1 505"), "{answer:?}");
    }
    assert!(origin.requests().is_empty());
}
