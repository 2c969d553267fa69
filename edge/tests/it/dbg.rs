use testkit::origin::Origin;
use testkit::websocket::WebSocket;
use crate::harness::*;
async fn go() {
    let edge = TestEdge::start().await;
    let origin = Origin::start("lab").await;
    let mut sockets = Vec::new();
    for number in 0..12 {
        let name = format!("stays-{number}");
        edge.serve(&by_host(&name, vec![origin.target()])).await;
        sockets.push(WebSocket::open(edge.address, &format!("{name}.apps.test"), "/ws").await.expect("upgraded"));
    }
    for (n, s) in sockets.iter_mut().enumerate() {
        println!("{n} {:?}", s.echo("x").await);
    }
    println!("{}", edge.get("127.0.0.1", "/metrics").await.text().await.unwrap());
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multi() { go().await }
#[tokio::test]
async fn single() { go().await }
