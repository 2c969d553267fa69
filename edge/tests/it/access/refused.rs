//! Requests that must not reach a target, whatever they are and whatever they bring.

use testkit::origin::Origin;
use testkit::raw::RawAnswer;

use super::{Guarded, private};

/// Everything that a stranger may try to be taken for somebody who belongs here.
async fn wrong_credentials(guarded: &Guarded, lab: &super::Circuit, other: &super::Circuit) -> Vec<String> {
    let token = guarded.token(lab);
    let (head, rest) = token.split_once('.').expect("parts");
    let unsigned = token.rsplit_once('.').expect("parts").0;
    let cookie = guarded.cookie(lab, "lab").await;
    let (name, value) = cookie.split_once('=').expect("a pair");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let expired = guarded.sign(super::TokenKind::Bearer, lab, |claims| claims.expires_at_s = super::START_S);
    let forger = super::SigningKey::from_seed([9; 32]);
    let claims = super::Claims::of(super::TokenKind::Bearer, lab, super::START_S + 60);
    let forged = forger.sign(super::TokenKind::Bearer, &claims).expect("signs");
    vec![
        String::new(),
        bearer(""),
        bearer("x"),
        bearer(&expired),
        bearer(&forged),
        bearer(&guarded.token(other)),
        bearer(&guarded.ticket(lab)),
        bearer(value),
        bearer(&format!("{unsigned}.")),
        bearer(&format!("{head}X.{rest}")),
        // {"typ":"appproxy-token+jwt","alg":"none"}
        bearer(&format!(
            "eyJ0eXAiOiJhcHBwcm94eS10b2tlbitqd3QiLCJhbGciOiJub25lIn0.{}.",
            rest.split_once('.').expect("parts").0
        )),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        format!("X-AppProxy-Token: {expired}\r\n"),
        format!("Cookie: {name}=\r\n"),
        format!("Cookie: {name}={token}\r\n"),
        format!("Cookie: {name}={}\r\n", guarded.ticket(lab)),
        format!("Cookie: {name}={}X\r\n", value),
        format!("Cookie: {name}x={value}\r\n"),
        format!("Cookie: {}={value}\r\n", name.to_uppercase()),
        format!("Cookie: __Host-{name}={value}\r\n"),
        format!("Cookie: {}\r\n", guarded.cookie(other, "other").await),
    ]
}

#[tokio::test]
async fn no_request_and_no_upgrade_reaches_the_target_with_a_wrong_credential_or_none() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let (lab, other) = (private("lab", vec![origin.target()]), private("other", vec![]));
    guarded.edge.serve(&lab).await;
    guarded.edge.serve(&other).await;
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut refused = 0;
    for credential in wrong_credentials(&guarded, &lab, &other).await {
        for request in [
            "GET / HTTP/1.1\r\nHost: lab.apps.test\r\n".to_owned(),
            "HEAD / HTTP/1.0\r\nHost: lab.apps.test\r\n".to_owned(),
            "OPTIONS /api HTTP/1.1\r\nHost: lab.apps.test\r\nOrigin: http://lab.apps.test\r\n\
             Access-Control-Request-Method: PUT\r\n"
                .to_owned(),
            "POST / HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: 0\r\n".to_owned(),
            "GET http://lab.apps.test/ HTTP/1.1\r\nHost: lab.apps.test\r\n".to_owned(),
            "GET /health HTTP/1.1\r\nHost: lab.apps.test.\r\n".to_owned(),
            format!("GET /ws HTTP/1.1\r\nHost: lab.apps.test\r\n{websocket}"),
            format!("GET /ws HTTP/1.1\r\nHost: LAB.apps.test\r\nOrigin: http://lab.apps.test\r\n{websocket}"),
            "GET /ws HTTP/1.1\r\nHost: lab.apps.test\r\nConnection: upgrade\r\nUpgrade: tcp\r\n".to_owned(),
        ] {
            let mut client = testkit::raw::RawClient::connect(guarded.edge.address).await;
            client.send(&format!("{request}{credential}\r\n")).await;
            let answer = client.head().await;
            assert_eq!(answer.status, 401, "{request}{credential}");
            assert!(answer.field("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
            refused += 1;
        }
    }
    assert_eq!(origin.requests(), [], "the target has seen something");
    let counted = |reason: &str| format!("appproxy_edge_refusals_total{{reason=\"{reason}\"}}");
    let total =
        guarded.edge.metric(&counted("no_credential")).await + guarded.edge.metric(&counted("bad_credential")).await;
    assert_eq!(total, f64::from(refused));
}

#[tokio::test]
async fn another_page_gets_nothing_with_the_cookie_of_the_user() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let lab = private("lab", vec![origin.target()]);
    guarded.edge.serve(&lab).await;
    let cookie = guarded.cookie(&lab, "lab").await;
    let ask = async |method: &str, fields: &str| -> RawAnswer {
        let request = format!(
            "{method} /ws HTTP/1.1\r\nHost: lab.apps.test\r\nCookie: {cookie}\r\nContent-Length: 0\r\n{fields}\r\n"
        );
        guarded.send(&request).await
    };
    for (method, fields) in [
        ("GET", "Origin: http://other.apps.test\r\n"),
        ("POST", "Origin: http://other.apps.test\r\nSec-Fetch-Site: same-site\r\n"),
        ("GET", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"),
        ("GET", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n"),
        ("POST", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"),
        ("GET", "Origin: http://other.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("OPTIONS", "Origin: http://other.apps.test\r\nAccess-Control-Request-Method: PUT\r\n"),
    ] {
        let answer = ask(method, fields).await;
        assert_eq!(answer.status, 403, "{method} {fields}");
        assert!(answer.body.contains("cross_origin"), "{}", answer.body);
    }
    assert_eq!(origin.requests(), []);
    for (method, fields) in [
        ("GET", "Origin: http://lab.apps.test\r\n"),
        ("POST", "Origin: http://lab.apps.test\r\nSec-Fetch-Site: same-origin\r\n"),
        ("GET", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"),
        ("GET", "Sec-Fetch-Site: none\r\n"),
    ] {
        assert_eq!(ask(method, fields).await.status, 200, "{method} {fields}");
    }
}

#[tokio::test]
async fn people_are_sent_to_where_they_get_a_ticket_and_programs_are_told() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let mut lab = private("lab", vec![origin.target()]);
    lab.access.login_url = Some("https://manager.test/open?from=proxy".to_owned());
    guarded.edge.serve(&lab).await;
    let person = "Accept: text/html,*/*;q=0.8\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let answer = guarded.ask("lab", "/lab/tree?a=1&b=%20", person).await;
    assert_eq!(answer.status, 303);
    let location = answer.field("location").expect("where to");
    let wanted = "https://manager.test/open?from=proxy&circuit=lab:web&redirect=/lab/tree%3Fa%3D1%26b%3D%2520";
    assert_eq!(location, wanted);
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    for fields in [
        "Accept: application/json\r\n",
        "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n",
        "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
        "Accept: text/html\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
    ] {
        assert_eq!(guarded.ask("lab", "/", fields).await.status, 401, "{fields}");
    }
    let page = guarded.ask("lab", "/", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n").await;
    assert!(page.body.contains("This application is private"), "{}", page.body);
}

#[tokio::test]
async fn paths_of_the_edge_itself_are_never_forwarded() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let (lab, public) =
        (private("lab", vec![origin.target()]), crate::harness::by_host("public", vec![origin.target()]));
    guarded.edge.serve(&lab).await;
    guarded.edge.serve(&public).await;
    let cookie = format!("Cookie: {}\r\n", guarded.cookie(&lab, "lab").await);
    for (name, path, status) in [
        ("lab", "/.appproxy/", 404),
        ("lab", "/.appproxy/other", 404),
        ("lab", "/.appproxy/ticket", 401),
        ("lab", "/.appproxy/ticket?t=", 401),
        ("public", "/.appproxy/", 404),
        ("public", "/.appproxy/ticket?t=x", 303),
    ] {
        assert_eq!(guarded.ask(name, path, &cookie).await.status, status, "{name}{path}");
    }
    let post = "POST /.appproxy/ticket?t=x HTTP/1.1\r\nHost: lab.apps.test\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(guarded.send(post).await.status, 405);
    assert_eq!(origin.requests(), []);
    assert_eq!(guarded.ask("lab", "/.appproxy", &cookie).await.status, 200, "only what is below it is reserved");
}

#[tokio::test]
async fn a_circuit_says_nothing_about_itself_to_a_stranger() {
    let guarded = Guarded::start().await;
    guarded.edge.serve(&private("empty", vec![])).await;
    assert_eq!(guarded.ask("empty", "/", "").await.status, 401);
    let mut far = private("far", vec![]);
    far.access.allowed_clients = vec!["10.0.0.0/8".parse().expect("valid")];
    guarded.edge.serve(&far).await;
    let token = format!("Authorization: Bearer {}\r\n", guarded.token(&far));
    assert_eq!(guarded.ask("far", "/", &token).await.status, 403);
    let ticket = guarded.ask("far", &format!("/.appproxy/ticket?t={}", guarded.ticket(&far)), "").await;
    assert_eq!((ticket.status, ticket.field("set-cookie")), (403, None));
}

/// Whoever is allowed by address must have one: the proxy's own is not that of its client.
#[tokio::test]
async fn a_client_that_hides_behind_a_trusted_proxy_has_no_address_that_is_allowed() {
    let guarded = Guarded::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1".parse().expect("valid")];
    })
    .await;
    let origin = Origin::start("lab").await;
    let mut lab = crate::harness::by_host("lab", vec![origin.target()]);
    lab.access.allowed_clients = vec!["127.0.0.0/8".parse().expect("valid")];
    guarded.edge.serve(&lab).await;
    for (claim, status) in [
        ("X-Forwarded-For: 127.0.0.9\r\n", 200),
        ("", 200),
        ("X-Forwarded-For: 192.0.2.1\r\n", 403),
        ("X-Forwarded-For: unknown\r\n", 403),
        ("Forwarded: for=_hidden\r\n", 403),
    ] {
        assert_eq!(guarded.ask("lab", "/", claim).await.status, status, "{claim}");
    }
    assert_eq!(origin.requests().len(), 2);
}

/// Behind a proxy that ends TLS the browser's origin is not what the edge itself was asked for.
#[tokio::test]
async fn behind_a_trusted_proxy_the_own_page_is_the_one_that_the_browser_shows() {
    let guarded = Guarded::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1".parse().expect("valid")];
    })
    .await;
    let origin = Origin::start("lab").await;
    let lab = private("lab", vec![origin.target()]);
    guarded.edge.serve(&lab).await;
    let told = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n";
    let ticket = format!("/.appproxy/ticket?t={}", guarded.ticket(&lab));
    let answer = guarded.ask("lab", &ticket, told).await;
    let cookie = answer.field("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("__Host-appproxy-pass-") && cookie.ends_with("; Secure"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair").to_owned();
    for (page, status) in
        [("https://lab.apps.test", 200), ("http://lab.apps.test", 403), ("https://other.apps.test", 403)]
    {
        let fields = format!("{told}Cookie: {pair}\r\nOrigin: {page}\r\n");
        assert_eq!(guarded.ask("lab", "/", &fields).await.status, status, "{page}");
    }
}
