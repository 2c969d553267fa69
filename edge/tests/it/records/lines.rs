//! What stands in a record's line, and what is counted before there is one.

use testkit::wait::wait_until;

use super::capture::{Line, watch};
use super::streams::stream;
use super::tunnels::tunnel;
use super::{asked, request, start_with};

/// The most that is shown of a path, and what stands for the rest.
const MAX_PATH_BYTES: usize = 512 + "…".len();

/// The one record of this client.
async fn only_line(client: std::net::IpAddr) -> Line {
    wait_until("the record", async || !Line::all_of(client).is_empty()).await;
    let mut lines = Line::all_of(client);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

#[tokio::test]
async fn bytes_of_a_relay_are_counted_before_it_ends() {
    let edge = start_with(|_| {}).await;
    let (from, other) = (watch(), watch());
    let open = (stream(from, &edge, "bytes", |_| {}).await, tunnel(other, &edge, "socket", |_| {}).await);
    let relayed = async |direction: &str| {
        edge.metric(&format!("appproxy_edge_relayed_bytes_total{{direction=\"{direction}\"}}")).await
    };
    // `ping` through both.
    wait_until("both to be counted", async || relayed("to_target").await == 8.0).await;
    let head = crate::tunnel::AGREED.len() + crate::tunnel::NAME_BYTES;
    assert_eq!(relayed("to_client").await, (5 + head) as f64);
    assert!(Line::all_of(from).is_empty() && Line::all_of(other).is_empty(), "both are open");
    drop(open);
    for (client, to_client) in [(from, 5), (other, head)] {
        let line = only_line(client).await;
        assert_eq!((line.get("to_target"), line.get("to_client")), (Some("4"), Some(to_client.to_string().as_str())));
    }
    assert_eq!(relayed("to_target").await, 8.0, "the end counts nothing again");
    edge.stop().await;
}

#[tokio::test]
async fn a_line_shows_so_much_of_a_path_and_who_was_asked() {
    let edge = start_with(|_| {}).await;
    let from = watch();
    let path = format!("/{}", "a".repeat(4_000));
    let client = asked(from, &edge, &request("GET", "nobody", &path, "")).await;
    let line = only_line(from).await;
    let shown = line.get("path").expect("a path");
    assert!(shown.len() == MAX_PATH_BYTES && shown.ends_with('…') && shown.starts_with("/aaa"), "{shown}");
    assert_eq!((line.get("host"), line.get("entrance")), (Some("nobody.apps.test"), Some("traffic")));
    drop(client);
    edge.stop().await;
}

#[tokio::test]
async fn the_line_of_a_relay_says_what_was_asked_for_and_where_it_went() {
    let edge = start_with(|_| {}).await;
    let from = watch();
    let (client, target) = tunnel(from, &edge, "socket", |_| {}).await;
    let address = target.stream.local_addr().expect("bound").to_string();
    client.reset();
    drop(target);
    let line = only_line(from).await;
    assert_eq!((line.get("host"), line.get("path")), (Some("socket.apps.test"), Some("/socket")));
    assert_eq!(line.get("target"), Some(address.as_str()));
    assert!(line.get("error").is_some_and(|error| error.contains("reset")), "{line:?}");
    edge.stop().await;
}
