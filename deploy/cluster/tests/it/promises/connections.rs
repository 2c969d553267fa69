//! Promise 1: an open connection is never cut by a change to another circuit.

use std::sync::atomic::{AtomicBool, Ordering};

use cluster::{Cluster, Options};
use futures_util::future::{join, join_all};
use serde_json::json;
use testkit::manager::{circuit, host_and_port};
use testkit::origin::Origin;

use crate::load::Load;

const OTHERS: usize = 240;
const CLIENTS: usize = 6;
const SOCKETS: u16 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn websockets_at_both_edges_lose_nothing_while_others_come_change_and_go_and_etcd_restarts() {
    // A connection that was taken for one of a closed circuit would be cut soon.
    let drain = ("APPPROXY_CIRCUITS__DRAIN_S", "1".to_owned());
    let rest = ("APPPROXY_CIRCUITS__PORT_REST_S", "2".to_owned());
    let options = Options { ports: 200, edge: vec![drain], coordinator: vec![rest], ..Options::default() };
    let mut cluster = Cluster::start_with(options).await;
    let origin = Origin::start("app").await;
    let mut sockets = Vec::new();
    for (service, mode) in [("by-name", "subdomain"), ("by-port", "port")] {
        let opened = cluster.manager.open(circuit("mine", service, mode, &[origin.address()])).await;
        let (host, port) = host_and_port(&opened);
        for number in 0..SOCKETS / 2 {
            let edge = &cluster.edges[usize::from(number % 2)];
            sockets.push(match mode {
                "port" => edge.port_websocket(port).await,
                _ => edge.websocket(&host).await,
            });
        }
    }
    let mut load = Load::new();
    load.speak(sockets);
    load.go_on(0, 100).await;

    let Cluster { manager, etcd, .. } = &mut cluster;
    let is_over = AtomicBool::new(false);
    let client = async |number: usize| {
        for index in (number..OTHERS).step_by(CLIENTS) {
            let mode = if index % 2 == 0 { "subdomain" } else { "port" };
            let body = circuit("others", &format!("app-{index}"), mode, &[origin.address()]);
            let path = format!("/v2/circuits/others:app-{index}");
            // While etcd is away it is 202; a port may be resting everywhere.
            let (status, reply) = manager.call("POST", "/v2/circuits", Some(body)).await;
            assert!(status.is_success() || reply["code"] == "no_free_port", "{status} {reply}");
            if status.is_success() {
                let (status, reply) = manager.call("PATCH", &path, Some(json!({"targets": []}))).await;
                assert!(status.is_success(), "{status} {reply}");
                let (status, reply) = manager.call("DELETE", &path, None).await;
                assert!(status.is_success(), "{status} {reply}");
            }
        }
    };
    let churn = async {
        join_all((0..CLIENTS).map(client)).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let restarts = async {
        let mut count = 0;
        while count < 2 || !is_over.load(Ordering::Relaxed) {
            etcd.kill();
            load.go_on(0, 200).await;
            etcd.restart().await;
            load.go_on(0, 2_000).await;
            count += 1;
        }
    };
    join(churn, restarts).await;
    load.finish().await;
}
