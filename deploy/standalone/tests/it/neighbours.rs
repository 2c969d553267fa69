//! A browser that holds the cookie of one circuit, on a page of another: the same site to the browser, a stranger here.

use serde_json::{Value, json};
use testkit::origin::Origin;

use crate::apps::{chromium, drive};
use crate::harness::{Proxy, circuit};

fn page() -> Vec<u8> {
    let text = "<!doctype html><title>a page</title><body>hello";
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

/// What the application of a private circuit has seen, but for icons that browsers ask for by themselves.
fn paths(origin: &Origin) -> Vec<String> {
    let requests = origin.requests();
    let asked = requests.iter().map(|request| format!("{} {}", request.method, request.path));
    asked.filter(|asked| !asked.ends_with("/favicon.ico")).collect()
}

async fn a_neighbour_tries_in(mode: &str) {
    let (victim, neighbour) = (Origin::start("victim").await, Origin::start("neighbour").await);
    neighbour.answer("/page", &page());
    victim.answer("/lab", &page());
    let proxy = Proxy::start(10).await;
    let mut body = circuit("s1", "private", mode, &[victim.address()]);
    body["access"] = json!({"public": false, "user_id": "alice"});
    proxy.manager.open(body).await;
    let mut body = circuit("s2", "neighbour", mode, &[neighbour.address()]);
    body["access"] = json!({"public": true});
    let beside = proxy.manager.open(body).await;
    let asked = json!({"user": "alice", "redirect": "/lab?x=1"});
    let (status, ticket) = proxy.manager.call("POST", "/v2/circuits/s1:private/tickets", Some(asked)).await;
    assert_eq!(status, 201, "{ticket}");
    let (ticket, beside) = (ticket["url"].as_str().unwrap(), beside["url"].as_str().unwrap());
    let chromium = chromium();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("refused.png");
    let arguments =
        ["--ticket", ticket, "--neighbour", beside, "--chromium", &chromium, "--out", picture.to_str().unwrap()];
    let answer = drive("neighbour.py", &arguments).await;
    assert_eq!(answer["first"], "/lab?x=1", "{answer}");

    // The circuit's own page can do everything, so what follows is not refused for another reason.
    let own = &answer["own"];
    for (attempt, outcome) in [("fetch", "200"), ("post", "200"), ("put", "200"), ("websocket", "hello")] {
        assert_eq!(own[attempt], outcome, "{attempt}: {answer}");
    }
    assert!(own["form"].as_str().unwrap().contains("POST"), "{answer}");
    let seen = paths(&victim);
    for path in ["GET /lab?x=1", "GET /fetch", "POST /post", "PUT /put", "POST /beacon", "GET /ws", "POST /form"] {
        assert_eq!(seen.iter().filter(|asked| *asked == path).count(), 1, "{path} in {seen:?}");
    }

    let foreign = &answer["foreign"];
    for attempt in ["fetch", "put", "image", "script", "websocket"] {
        assert_eq!(foreign[attempt], "error", "{attempt}: {answer}");
    }
    for attempt in ["fetch_blind", "post"] {
        assert_eq!(foreign[attempt], "opaque", "{attempt} was sent, and nobody may read the refusal: {answer}");
    }
    assert!(
        foreign["form"].as_str().unwrap().contains("cross_origin")
            || foreign["form"].as_str().unwrap().contains("Another site"),
        "{answer}"
    );
    assert_eq!(paths(&victim).len(), seen.len(), "the application has seen something of its neighbour");

    // Nor does the neighbour's application get to see the cookie, which browsers send along between ports of a host.
    let cookies: Vec<Value> = neighbour.requests().iter().map(|request| json!(request.header("cookie"))).collect();
    assert!(!json!(cookies).to_string().contains("appproxy"), "{cookies:?}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_on_a_neighbouring_subdomain_gets_nothing() {
    a_neighbour_tries_in("subdomain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_on_another_port_of_the_host_gets_nothing() {
    a_neighbour_tries_in("port").await;
}
