//! Tickets, cookies and bearer tokens: what opens a circuit, and when it does no more.

use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::raw::RawClient;
use testkit::wait::wait_until;

use super::{Guarded, MINUTE, last, private, reborn, with_new_rules};
use crate::harness::{at, by_port};

#[tokio::test]
async fn a_ticket_becomes_a_cookie_that_opens_the_circuit_and_leads_to_its_page() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let lab = private("lab", vec![origin.target()]);
    guarded.edge.serve(&lab).await;
    let ticket =
        guarded.sign(super::TokenKind::Ticket, &lab, |claims| claims.redirect = Some("/lab?tree=1".to_owned()));
    let answer = guarded.ask("lab", &format!("/.appproxy/ticket?t={ticket}"), "").await;
    assert_eq!((answer.status, answer.field("location")), (303, Some("/lab?tree=1")));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("referrer-policy"), Some("no-referrer"));
    let cookie = answer.field("set-cookie").expect("a cookie");
    assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(origin.requests().is_empty(), "a ticket is nothing to the target");
    let pair = cookie.split(';').next().expect("a pair");
    let answer = guarded.ask("lab", "/lab?tree=1", &format!("Cookie: a=b; {pair}\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(last(&origin).header("cookie"), Some("a=b"));
}

#[tokio::test]
async fn a_token_opens_the_circuit_by_either_field() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let lab = private("lab", vec![origin.target()]);
    guarded.edge.serve(&lab).await;
    let token = guarded.token(&lab);
    for fields in [
        format!("Authorization: Bearer {token}\r\n"),
        format!("authorization: bearer {token}\r\n"),
        format!("Authorization: token of-the-application\r\nX-AppProxy-Token: {token}\r\n"),
    ] {
        assert_eq!(guarded.ask("lab", "/api", &fields).await.status, 200, "{fields}");
    }
    assert_eq!(last(&origin).header("authorization"), Some("token of-the-application"));
}

#[tokio::test]
async fn nothing_opens_after_its_time_a_change_of_the_rules_or_another_life_of_the_circuit() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let lab = private("lab", vec![origin.target()]);
    guarded.edge.serve(&lab).await;
    let credentials = async |guarded: &Guarded, circuit| {
        let cookie = guarded.cookie(circuit, "lab").await;
        [format!("Cookie: {cookie}\r\n"), format!("Authorization: Bearer {}\r\n", guarded.token(circuit))]
    };
    let is_open = async |guarded: &Guarded, fields: &str| {
        let answer = guarded.ask("lab", "/", fields).await;
        assert!([200, 401].contains(&answer.status), "{}", answer.head);
        answer.status == 200
    };
    let [cookie, token] = credentials(&guarded, &lab).await;
    assert!(is_open(&guarded, &cookie).await && is_open(&guarded, &token).await);
    let changed = with_new_rules(&lab);
    guarded.edge.serve(&changed).await;
    assert!(!is_open(&guarded, &cookie).await && !is_open(&guarded, &token).await);
    let [cookie, token] = credentials(&guarded, &changed).await;
    assert!(is_open(&guarded, &cookie).await && is_open(&guarded, &token).await);
    guarded.edge.close(&changed).await;
    assert_eq!(guarded.ask("lab", "/", &cookie).await.status, 404);
    let again = reborn(&changed);
    guarded.edge.serve(&again).await;
    assert!(!is_open(&guarded, &cookie).await && !is_open(&guarded, &token).await);
    let [cookie, token] = credentials(&guarded, &again).await;
    guarded.clock.advance(MINUTE);
    assert!(is_open(&guarded, &cookie).await && !is_open(&guarded, &token).await);
    guarded.clock.advance(MINUTE * 60 * 12);
    assert!(!is_open(&guarded, &cookie).await);
    let late = guarded.ask("lab", &format!("/.appproxy/ticket?t={}", guarded.ticket(&again)), "").await;
    assert_eq!((late.status, late.field("set-cookie")), (401, None), "the ticket has expired too");
}

#[tokio::test]
async fn what_opens_one_circuit_opens_no_other_not_even_on_ports_of_one_host() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let (lab, other) = (private("lab", vec![origin.target()]), private("other", vec![origin.target()]));
    let mut on_ports =
        [free_port(), free_port()].map(|port| (port, by_port(&format!("p{port}"), port, vec![origin.target()])));
    guarded.edge.serve(&lab).await;
    guarded.edge.serve(&other).await;
    for (_, circuit) in &mut on_ports {
        circuit.access.public = false;
        guarded.edge.serve(circuit).await;
    }
    let cookie = guarded.cookie(&lab, "lab").await;
    let (_, value) = cookie.split_once('=').expect("a pair");
    let other_name = guarded.cookie(&other, "other").await.split('=').next().expect("a name").to_owned();
    let token = guarded.token(&lab);
    let ticket = guarded.ticket(&lab);
    for fields in [
        format!("Cookie: {cookie}\r\n"),
        format!("Cookie: {other_name}={value}\r\n"),
        format!("Authorization: Bearer {token}\r\n"),
        format!("Cookie: {other_name}={token}\r\n"),
        format!("Authorization: Bearer {value}\r\n"),
        format!("Authorization: Bearer {ticket}\r\n"),
    ] {
        assert_eq!(guarded.ask("other", "/", &fields).await.status, 401, "{fields}");
    }
    assert_eq!(guarded.ask("other", &format!("/.appproxy/ticket?t={ticket}"), "").await.status, 401);
    let [(first, one), (second, _)] = &on_ports;
    let mut client = RawClient::connect(at(*first)).await;
    let path = format!("/.appproxy/ticket?t={}", guarded.ticket(one));
    let answer = client.get(&path, &format!("127.0.0.1:{first}")).await;
    let pair = answer.field("set-cookie").expect("a cookie").split(';').next().expect("a pair").to_owned();
    for (port, status) in [(first, 200), (second, 401)] {
        let mut client = RawClient::connect(at(*port)).await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {pair}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status, "{port}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn keys_come_and_go_without_a_restart() {
    let (guarded, origin) = (Guarded::start().await, Origin::start("lab").await);
    let lab = private("lab", vec![origin.target()]);
    guarded.edge.serve(&lab).await;
    let before = format!("Authorization: Bearer {}\r\n", guarded.token(&lab));
    assert_eq!(guarded.ask("lab", "/", &before).await.status, 200);
    let newer = Guarded { signer: super::SigningKey::from_seed([2; 32]), ..guarded };
    let after = format!("Authorization: Bearer {}\r\n", newer.token(&lab));
    assert_eq!(newer.ask("lab", "/", &after).await.status, 401);
    newer.edge.accept_key(&newer.signer).await;
    assert_eq!((newer.ask("lab", "/", &before).await.status, newer.ask("lab", "/", &after).await.status), (200, 200));
    newer.edge.withdraw_key(&super::SigningKey::from_seed([1; 32])).await;
    assert_eq!((newer.ask("lab", "/", &before).await.status, newer.ask("lab", "/", &after).await.status), (401, 200));
    // A value that cannot be read takes nothing away.
    let place = newer.edge.layout.key(&newer.signer.public().id());
    newer.edge.put(&place, b"garbage".to_vec()).await;
    newer.edge.wait_applied().await;
    assert_eq!(newer.ask("lab", "/", &after).await.status, 200);
}

#[tokio::test]
async fn cookies_and_keys_are_good_after_a_restart_without_a_registry() {
    let folder = tempfile::tempdir().expect("a folder");
    let (origin, data_dir) = (Origin::start("lab").await, folder.path().to_owned());
    let guarded = Guarded::start_with(|config| config.data_dir = Some(data_dir.clone())).await;
    let lab = private("lab", vec![origin.target()]);
    guarded.edge.serve(&lab).await;
    let cookie = format!("Cookie: {}\r\n", guarded.cookie(&lab, "lab").await);
    let token = format!("Authorization: Bearer {}\r\n", guarded.token(&lab));
    guarded.edge.line.take_away();
    let clock = guarded.clock.clone();
    let restarted = |config: &mut edge::Config| {
        config.data_dir = Some(data_dir);
        config.clock = std::sync::Arc::new(clock);
    };
    let guarded = Guarded { edge: guarded.edge.restart(restarted).await, ..guarded };
    wait_until("the snapshot", async || guarded.ask("lab", "/", &cookie).await.status == 200).await;
    assert_eq!(guarded.ask("lab", "/", &token).await.status, 200);
    assert_eq!(guarded.ask("lab", "/", "").await.status, 401);
}
