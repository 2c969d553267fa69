//! What targets see: no credential of the edge, in no situation.

use entities::circuit::Circuit;
use testkit::origin::Origin;

use super::{Guarded, last, private};
use crate::harness::by_host;

/// Everything of the edge's that a browser or a program may carry at once.
struct Secrets {
    fields: String,
    texts: Vec<String>,
}

async fn secrets(guarded: &Guarded, lab: &Circuit, other: &Circuit) -> Secrets {
    let cookies = [guarded.cookie(lab, "lab").await, guarded.cookie(other, "other").await];
    let (token, foreign, ticket) = (guarded.token(lab), guarded.token(other), guarded.ticket(lab));
    let fields = format!(
        "Cookie: first=1; {}; second=2\r\nCookie: {}; __Host-appproxy-pass-x=y; appproxy-target-1=z\r\n\
         X-AppProxy-Token: {foreign}\r\nReferer: http://lab.apps.test/.appproxy/ticket?t={ticket}\r\n",
        cookies[0], cookies[1]
    );
    let values = cookies.iter().map(|cookie| cookie.split_once('=').expect("a pair").1.to_owned());
    let texts = values.chain([token, foreign, ticket, "appproxy-".to_owned(), "x-appproxy-token".to_owned()]).collect();
    Secrets { fields, texts }
}

#[tokio::test]
async fn no_credential_of_the_edge_reaches_a_target_in_twenty_situations() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let (lab, other) = (private("lab", vec![origin.target()]), private("other", vec![]));
    let mut preferring = private("sticky", vec![origin.target(), origin.target()]);
    preferring.traffic.affinity.cookie = true;
    let mut retrying = by_host("public", vec![origin.target()]);
    retrying.traffic.retries.idempotent = true;
    for circuit in [&lab, &other, &preferring, &retrying] {
        guarded.edge.serve(circuit).await;
    }
    let Secrets { fields, texts } = secrets(&guarded, &lab, &other).await;
    let bearer = |circuit: &Circuit| format!("Authorization: Bearer {}\r\n", guarded.token(circuit));
    let sticky_cookie = guarded.cookie(&preferring, "sticky").await;
    let (lab_token, sticky_token, foreign) = (bearer(&lab), bearer(&preferring), bearer(&other));
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut situations = 0;
    for (host, extra) in [
        ("lab", ""),
        ("lab", lab_token.as_str()),
        ("sticky", &format!("Cookie: {sticky_cookie}\r\n")),
        ("sticky", &sticky_token),
        ("public", ""),
        ("public", &foreign),
    ] {
        for (start, more) in [
            ("GET / HTTP/1.1", ""),
            ("POST /form HTTP/1.1", "Content-Length: 2\r\n"),
            ("DELETE /x HTTP/1.1", "Sec-Fetch-Site: same-origin\r\n"),
            ("GET /ws HTTP/1.1", websocket),
        ] {
            let before = origin.requests().len();
            let body = if more.starts_with("Content-Length") { "{}" } else { "" };
            let mut client = testkit::raw::RawClient::connect(guarded.edge.address).await;
            client.send(&format!("{start}\r\nHost: {host}.apps.test\r\n{fields}{extra}{more}\r\n{body}")).await;
            let answer = client.head().await;
            assert!([200, 101].contains(&answer.status), "{host} {start} {extra}: {}", answer.head);
            assert_eq!(origin.requests().len(), before + 1);
            let received = format!("{:?}", last(&origin)).to_lowercase();
            for text in &texts {
                assert!(!received.contains(&text.to_lowercase()), "{host} {start}: {text} in {received}");
            }
            assert!(last(&origin).header_all("cookie").join("; ").contains("first=1"), "the application's own stay");
            situations += 1;
        }
    }
    assert!(situations >= 20, "{situations}");
}

#[tokio::test]
async fn the_target_gets_the_token_only_if_the_circuit_asks_for_it() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let mut lab = private("lab", vec![origin.target()]);
    lab.access.forward_token = true;
    let other = private("other", vec![]);
    guarded.edge.serve(&lab).await;
    let field = format!("Bearer {}", guarded.token(&lab));
    assert_eq!(guarded.ask("lab", "/", &format!("Authorization: {field}\r\n")).await.status, 200);
    assert_eq!(last(&origin).header("authorization"), Some(field.as_str()));
    // Not one that opened nothing, though the cookie did.
    let foreign =
        format!("Authorization: Bearer {}\r\nCookie: {}\r\n", guarded.token(&other), guarded.cookie(&lab, "lab").await);
    assert_eq!(guarded.ask("lab", "/", &foreign).await.status, 200);
    assert_eq!(last(&origin).header("authorization"), None);
}

#[tokio::test]
async fn an_application_sets_no_cookie_of_the_edge() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    guarded.edge.serve(&by_host("lab", vec![origin.target()])).await;
    origin.answer(
        "/set",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: appproxy-pass-1=x; Path=/\r\nSet-Cookie: own=1\r\n\
          Set-Cookie: __Host-appproxy-pass-2=; Max-Age=0\r\n\r\n",
    );
    let answer = guarded.ask("lab", "/set", "").await;
    assert!(answer.head.contains("own=1") && !answer.head.contains("appproxy-pass"), "{}", answer.head);
}
