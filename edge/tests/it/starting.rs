//! Applications that do not take requests yet.

use std::time::{Duration, Instant};

use testkit::client::client;
use testkit::origin::{Origin, target};
use testkit::ports::DeadPort;

use crate::harness::{TestEdge, at, by_host, name_of};

#[tokio::test]
async fn browsers_get_a_page_that_asks_again_and_programs_an_answer_that_says_when() {
    let (edge, port) = (TestEdge::start().await, DeadPort::hold());
    let number = port.port();
    edge.serve(&by_host("lab", vec![target("127.0.0.1", number)])).await;
    let ask = |accept: &'static str| {
        let request = client().get(edge.url("lab.apps.test", "/")).header("accept", accept);
        async move { request.send().await.expect("answered") }
    };
    let began = Instant::now();
    let page = ask("text/html,*/*").await;
    assert!(began.elapsed() < Duration::from_secs(2), "at once");
    assert_eq!((page.status().as_u16(), &page.headers()["retry-after"]), (503, &"2".parse().expect("valid")));
    let text = page.text().await.expect("text");
    assert!(text.contains("http-equiv=\"refresh\"") && text.contains("starting"), "{text}");
    assert!(!text.contains(&number.to_string()) && !text.contains("127.0.0.1"), "{text}");

    let problem = ask("application/json").await;
    assert_eq!((problem.status().as_u16(), &problem.headers()["retry-after"]), (503, &"2".parse().expect("valid")));
    assert_eq!(problem.json::<serde_json::Value>().await.expect("JSON")["code"], "starting");

    drop(port);
    let _origin = Origin::start_at("lab", at(number)).await;
    assert_eq!(name_of(ask("text/html").await).await, "lab");
}

/// The first target takes no connection, the second takes the request and breaks off: that one is not starting.
#[tokio::test]
async fn a_target_that_breaks_off_is_not_taken_for_another_one_that_is_starting() {
    let (edge, port, broken) = (TestEdge::start().await, DeadPort::hold(), Origin::start("broken").await);
    broken.answer("/", b"");
    edge.serve(&by_host("lab", vec![target("127.0.0.1", port.port()), broken.target()])).await;
    assert_eq!(edge.get("lab.apps.test", "/").await.status(), 502);
    assert_eq!(broken.count("/"), 1);
    assert_eq!(edge.metric("appproxy_edge_target_faults_total{reason=\"broken\"}").await, 1.0);
}
