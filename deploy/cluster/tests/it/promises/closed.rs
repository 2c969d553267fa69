//! Promise 5: a closed circuit takes no new connection, and what was open ends within the drain time.

use cluster::{Cluster, Options};
use futures_util::future::join_all;
use reqwest::StatusCode;
use testkit::manager::{circuit, host_and_port};
use testkit::origin::Origin;

const CIRCUITS: u16 = 40;
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn after_204_neither_edge_takes_a_connection_and_open_ones_end_within_the_drain_time() {
    let drain = ("APPPROXY_CIRCUITS__DRAIN_S", "1".to_owned());
    let cluster = Cluster::start_with(Options { ports: CIRCUITS, edge: vec![drain], ..Options::default() }).await;
    let origin = Origin::start("app").await;
    let client = async |number: usize| {
        for index in (number..usize::from(CIRCUITS)).step_by(CLIENTS) {
            let mode = if index % 2 == 0 { "subdomain" } else { "port" };
            let body = circuit("s1", &format!("app-{index}"), mode, &[origin.address()]);
            let opened = cluster.manager.open(body).await;
            let (host, port) = host_and_port(&opened);
            let mut sockets = Vec::new();
            for edge in &cluster.edges {
                let open = async || match mode {
                    "port" => edge.port_websocket(port).await,
                    _ => edge.websocket(&host).await,
                };
                let mut socket = open().await;
                assert_eq!(socket.echo("before").await.as_deref(), Some("before"));
                sockets.push(socket);
            }
            cluster.manager.close(opened["key"].as_str().unwrap()).await;
            for edge in &cluster.edges {
                match mode {
                    "port" => assert!(edge.get_port(port).await.is_err(), "{} still listens", edge.id),
                    _ => assert_eq!(edge.get(&host).await.unwrap().status, StatusCode::NOT_FOUND),
                }
            }
            // The socket's own limit is that of the test; nothing ends it but the drain.
            join_all(sockets.iter_mut().map(|socket| socket.wait_for_end())).await;
        }
    };
    join_all((0..CLIENTS).map(client)).await;
}
