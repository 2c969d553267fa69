//! Clients that stay with the target that served them first.

use entities::balance::Affinity;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::Value;
use testkit::client::client;
use testkit::origin::Origin;
use testkit::raw::RawClient;

use crate::harness::{TestEdge, by_host};

/// Asks with these cookies; answers the target's echo and the cookie that was set.
async fn ask(edge: &TestEdge, cookie: Option<&str>) -> (Value, Option<String>) {
    let mut request = client().get(edge.url("lab.apps.test", "/"));
    if let Some(cookie) = cookie {
        request = request.header(COOKIE, cookie);
    }
    let response = request.send().await.expect("answered");
    assert_eq!(response.status(), 200);
    let set = response.headers().get(SET_COOKIE).map(|value| value.to_str().expect("text").to_owned());
    (response.json().await.expect("JSON"), set)
}

fn cookies_of(echo: &Value) -> Vec<&str> {
    let fields = echo["headers"].as_array().expect("a list").iter();
    fields.filter(|field| field[0] == "cookie" || field[0] == "Cookie").filter_map(|field| field[1].as_str()).collect()
}

#[tokio::test]
async fn a_client_stays_with_its_target_whatever_becomes_of_the_others() {
    let edge = TestEdge::start().await;
    let origins = [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await];
    let mut circuit = by_host("lab", origins.iter().map(Origin::target).collect());
    circuit.traffic.affinity = Affinity { cookie: true };
    edge.serve(&circuit).await;

    let (echo, set) = ask(&edge, None).await;
    let mine = echo["name"].as_str().expect("a name").to_owned();
    let set = set.expect("a cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && !set.contains("127.0.0.1"), "{set}");
    let cookie = set.split(';').next().expect("a pair").to_owned();
    for _ in 0..6 {
        let (echo, set) = ask(&edge, Some(&cookie)).await;
        assert_eq!((echo["name"].as_str(), set), (Some(mine.as_str()), None));
    }

    // All others go, and one comes.
    let late = Origin::start("late").await;
    let of = |name: &str| ["a", "b", "c"].iter().position(|known| *known == name).expect("one of them");
    circuit.targets = vec![late.target(), origins[of(&mine)].target()];
    edge.serve(&circuit).await;
    for _ in 0..6 {
        assert_eq!(ask(&edge, Some(&cookie)).await.0["name"], mine.as_str());
    }

    // Its own goes: it gets another one, and stays there.
    circuit.targets = vec![late.target(), origins[(of(&mine) + 1) % 3].target()];
    edge.serve(&circuit).await;
    let (echo, set) = ask(&edge, Some(&cookie)).await;
    let cookie = set.expect("another cookie").split(';').next().expect("a pair").to_owned();
    for _ in 0..6 {
        assert_eq!(ask(&edge, Some(&cookie)).await.0["name"], echo["name"]);
    }
}

#[tokio::test]
async fn the_cookie_counts_for_upgrades_too() {
    let edge = TestEdge::start().await;
    let origins = [Origin::start("a").await, Origin::start("b").await];
    let mut circuit = by_host("lab", origins.iter().map(Origin::target).collect());
    circuit.traffic.affinity = Affinity { cookie: true };
    edge.serve(&circuit).await;
    let (echo, set) = ask(&edge, None).await;
    let cookie = set.expect("a cookie").split(';').next().expect("a pair").to_owned();
    for _ in 0..4 {
        let mut client = RawClient::connect(edge.address).await;
        let upgrade = format!(
            "GET /ws HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: {cookie}\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        client.send(&upgrade).await;
        assert_eq!(client.head().await.status, 101);
    }
    let upgraded = |name: &str| origins[usize::from(name == "b")].count("/ws");
    assert_eq!(upgraded(echo["name"].as_str().expect("a name")), 4);
}

#[tokio::test]
async fn no_cookie_of_the_edge_reaches_a_target() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    for (sent, received) in [
        ("a=b", vec!["a=b"]),
        ("a=b; appproxy-target-0011=ff; c=d", vec!["a=b; c=d"]),
        ("appproxy-anything=x", vec![]),
        ("appproxy-one=x; appproxy-two=y;z=1", vec!["z=1"]),
        ("x=appproxy-target-0011", vec!["x=appproxy-target-0011"]),
    ] {
        let (echo, set) = ask(&edge, Some(sent)).await;
        assert_eq!(cookies_of(&echo), received, "{sent}");
        assert_eq!(set, None, "nobody asked for affinity");
    }
}
