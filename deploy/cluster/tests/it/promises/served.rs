//! Promise 2: `201` means served.

use cluster::Cluster;
use futures_util::future::join_all;
use reqwest::StatusCode;
use testkit::manager::{circuit, host_and_port};
use testkit::origin::Origin;

const CIRCUITS: usize = 1_000;
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_thousand_circuits_is_served_at_both_edges_when_its_201_arrives() {
    let cluster = Cluster::start().await;
    let origin = Origin::start("app").await;
    let client = async |number: usize| {
        for index in (number..CIRCUITS).step_by(CLIENTS) {
            let body = circuit("s1", &format!("app-{index}"), "subdomain", &[origin.address()]);
            let opened = cluster.manager.open(body).await;
            let (host, _) = host_and_port(&opened);
            for answer in join_all(cluster.edges.iter().map(|edge| edge.get(&host))).await {
                assert_eq!(answer.unwrap().status, StatusCode::OK, "{opened}");
            }
            assert_eq!(opened["applied"]["workers"].as_array().unwrap().len(), 2, "{opened}");
        }
    };
    join_all((0..CLIENTS).map(client)).await;
    let (_, page) = cluster.manager.call("GET", "/v2/circuits?status=HEALTHY&limit=1000", None).await;
    assert_eq!(page["items"].as_array().unwrap().len(), CIRCUITS);
}
