//! Who comes in, at which moment.

use std::time::Duration;

use entities::access::Access;
use entities::balance::LoadBalancing;
use entities::circuit::{Backend, Circuit, Protocol, Traffic};
use entities::frontend::Frontend;
use entities::ids::{CircuitId, Generation};
use entities::token::SigningKey;
use testkit::clock::ManualClock;

use super::credentials::cookie_name;
use super::*;

const HOST: &str = "lab.apps.test";

struct Door {
    authorizer: Authorizer,
    clock: ManualClock,
    signer: SigningKey,
    circuit: Circuit,
}

impl Door {
    fn new(change: impl FnOnce(&mut Access)) -> Self {
        let signer = SigningKey::from_seed([1; 32]);
        let keys = Arc::new(PublicKeys::default());
        keys.replace([signer.public()]);
        let clock = ManualClock::at_ms(1_790_000_000_000);
        let cookie_keys = vec![CookieKey::derived_from("new"), CookieKey::derived_from("old")];
        let authorizer = Authorizer::new(keys, cookie_keys, Arc::new(clock.clone()));
        let mut access = Access::default();
        change(&mut access);
        let circuit = Circuit {
            id: CircuitId::random(),
            key: "s1:lab".parse().expect("valid"),
            authority: "main".parse().expect("valid"),
            frontend: Frontend::Port { port: 30_000.try_into().expect("valid") },
            protocol: Protocol::Http,
            backend: Backend::Http,
            targets: Vec::new(),
            load_balancing: LoadBalancing::default(),
            access,
            access_generation: Generation(1),
            traffic: Traffic::default(),
        };
        Self { authorizer, clock, signer, circuit }
    }

    fn claims(&self, kind: TokenKind, life_s: i64) -> Claims {
        Claims::of(kind, &self.circuit, self.authorizer.now_s() + life_s)
    }

    fn bearer(&self) -> (&'static str, String) {
        let token = self.signer.sign(TokenKind::Bearer, &self.claims(TokenKind::Bearer, 60)).expect("signs");
        ("authorization", format!("Bearer {token}"))
    }

    fn cookie(&self, key: usize) -> (&'static str, String) {
        let value = self.authorizer.cookie_keys[key].sign(&self.claims(TokenKind::Cookie, 60)).expect("signs");
        ("cookie", format!("{}={value}", cookie_name(self.circuit.id, Scheme::Https)))
    }

    fn ask(&self, method: &str, fields: &[(&'static str, String)]) -> Result<Pass, Denial> {
        let mut request = http::Request::builder().method(method).uri("/");
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        let (request, ()) = request.body(()).expect("valid").into_parts();
        let rules = Rules::of(&self.circuit).expect("private");
        self.authorizer.authorize(&rules, &request, "192.0.2.1".parse().ok(), Scheme::Https, HOST)
    }
}

fn field(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

#[test]
fn a_token_and_a_cookie_open_and_nothing_does_not() {
    let door = Door::new(|_| {});
    for method in ["GET", "HEAD", "POST", "OPTIONS", "PROPFIND"] {
        assert_eq!(door.ask(method, &[]), Err(Denial::NoCredential), "{method}");
        assert_eq!(door.ask(method, &[door.bearer()]), Ok(Pass::Token), "{method}");
        assert_eq!(door.ask(method, &[door.cookie(0)]), Ok(Pass::Cookie), "{method}");
    }
    assert_eq!(door.ask("GET", &[door.cookie(1)]), Ok(Pass::Cookie), "the old key is read");
    assert_eq!(door.ask("GET", &[field("authorization", "Bearer sk-1")]), Err(Denial::NoCredential));
}

/// Asked twice each time: what was verified before is judged again.
#[test]
fn what_opened_a_moment_ago_does_not_after_its_end_a_change_or_another_life() {
    let expired = Err(Denial::BadCredential(TokenError::Expired));
    let mut door = Door::new(|_| {});
    let shown = [door.bearer(), door.cookie(0)];
    for credential in &shown {
        assert!(door.ask("GET", std::slice::from_ref(credential)).is_ok());
        assert!(door.ask("GET", std::slice::from_ref(credential)).is_ok());
    }
    door.clock.advance(Duration::from_secs(59));
    shown.iter().for_each(|credential| assert!(door.ask("GET", std::slice::from_ref(credential)).is_ok()));
    door.clock.advance(Duration::from_secs(1));
    shown.iter().for_each(|credential| assert_eq!(door.ask("GET", std::slice::from_ref(credential)), expired));

    let shown = [door.bearer(), door.cookie(0)];
    shown.iter().for_each(|credential| assert!(door.ask("GET", std::slice::from_ref(credential)).is_ok()));
    door.circuit.access_generation = Generation(2);
    for credential in &shown {
        let denied = Err(Denial::BadCredential(TokenError::Revoked));
        assert_eq!(door.ask("GET", std::slice::from_ref(credential)), denied);
    }

    let [bearer, (_, cookie)] = [door.bearer(), door.cookie(0)];
    assert!(door.ask("GET", std::slice::from_ref(&bearer)).is_ok());
    let (_, value) = cookie.split_once('=').expect("a pair");
    door.circuit.id = CircuitId::random();
    // A cookie of another circuit has another name; under the right one it opens no more.
    let renamed = format!("{}={value}", cookie_name(door.circuit.id, Scheme::Https));
    assert_eq!(door.ask("GET", &[("cookie", cookie.clone())]), Err(Denial::NoCredential));
    let denied = Err(Denial::BadCredential(TokenError::OtherCircuit));
    assert_eq!(door.ask("GET", &[("cookie", renamed)]), denied);
    assert_eq!(door.ask("GET", &[bearer]), denied);
}

#[test]
fn a_key_that_is_taken_away_takes_its_tokens_along() {
    let door = Door::new(|_| {});
    let token = [door.bearer()];
    assert!(door.ask("GET", &token).is_ok());
    door.authorizer.keys.change(&door.signer.public().id(), None);
    assert_eq!(door.ask("GET", &token), Err(Denial::BadCredential(TokenError::UnknownKey)));
    let cookie = [door.cookie(1)];
    assert!(door.ask("GET", &cookie).is_ok());
    let rotated = Authorizer::new(
        Arc::new(PublicKeys::default()),
        vec![CookieKey::derived_from("newer"), CookieKey::derived_from("new")],
        Arc::new(door.clock.clone()),
    );
    let door = Door { authorizer: rotated, ..door };
    assert_eq!(door.ask("GET", &cookie), Err(Denial::BadCredential(TokenError::UnknownKey)));
}

#[test]
fn a_bad_token_does_not_keep_a_good_cookie_out() {
    let door = Door::new(|_| {});
    let other = Door::new(|_| {});
    assert_eq!(door.ask("GET", &[other.bearer(), door.cookie(0)]), Ok(Pass::Cookie));
    let (_, own) = door.cookie(0);
    let name = cookie_name(door.circuit.id, Scheme::Https);
    assert_eq!(door.ask("GET", &[("cookie", format!("{name}=tossed; {own}"))]), Ok(Pass::Cookie));
}

#[test]
fn a_cookie_that_another_page_sends_along_opens_nothing_and_a_token_does() {
    let door = Door::new(|access| access.allowed_origins = vec!["https://desk.test".parse().expect("valid")]);
    for (origin, cookie) in [
        ("https://lab.apps.test", Ok(Pass::Cookie)),
        ("https://desk.test", Ok(Pass::Cookie)),
        ("https://other.apps.test", Err(Denial::CrossOrigin)),
        ("null", Err(Denial::CrossOrigin)),
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            assert_eq!(door.ask(method, &[door.cookie(0), field("origin", origin)]), cookie, "{method} {origin}");
            assert_eq!(door.ask(method, &[door.bearer(), field("origin", origin)]), Ok(Pass::Token));
        }
    }
}

#[test]
fn a_preflight_passes_only_where_the_circuit_says_so_and_for_pages_that_may() {
    let preflight = |origin: &str| [field("origin", origin), field("access-control-request-method", "PUT")];
    let strict = Door::new(|access| access.allowed_origins = vec!["https://desk.test".parse().expect("valid")]);
    assert_eq!(strict.ask("OPTIONS", &preflight("https://desk.test")), Err(Denial::NoCredential));
    let door = Door::new(|access| {
        access.allowed_origins = vec!["https://desk.test".parse().expect("valid")];
        access.allow_preflight = true;
    });
    assert_eq!(door.ask("OPTIONS", &preflight("https://desk.test")), Ok(Pass::Free));
    assert_eq!(door.ask("OPTIONS", &preflight("https://evil.test")), Err(Denial::NoCredential));
    assert_eq!(door.ask("GET", &preflight("https://desk.test")), Err(Denial::NoCredential));
    let [origin, asked] = preflight("https://desk.test");
    assert_eq!(door.ask("OPTIONS", &[origin]), Err(Denial::NoCredential));
    assert_eq!(door.ask("OPTIONS", &[asked]), Err(Denial::NoCredential));
}

#[test]
fn an_address_that_is_not_allowed_gets_nowhere_with_the_best_credential() {
    let ranges = |text: &str| vec![text.parse().expect("valid")];
    let far = Door::new(|access| access.allowed_clients = ranges("10.0.0.0/8"));
    assert_eq!(far.ask("GET", &[far.bearer()]), Err(Denial::Client));
    let near = Door::new(|access| access.allowed_clients = ranges("192.0.2.0/24"));
    assert_eq!(near.ask("GET", &[near.bearer()]), Ok(Pass::Token));
    assert_eq!(near.ask("GET", &[]), Err(Denial::NoCredential));
    let public = |clients: &str| {
        Door::new(|access| {
            access.public = true;
            access.allowed_clients = ranges(clients);
        })
    };
    assert_eq!(public("10.0.0.0/8").ask("GET", &[]), Err(Denial::Client));
    assert_eq!(public("192.0.2.0/24").ask("GET", &[]), Ok(Pass::Free));
    let everybodys = Circuit { access: Access::for_everybody(), ..far.circuit };
    assert!(Rules::of(&everybodys).is_none());
}

#[test]
fn a_ticket_becomes_a_cookie_once_it_is_judged() {
    let mut door = Door::new(|_| {});
    let ticket = |door: &Door, redirect: Option<&str>, life_s| {
        let mut claims = door.claims(TokenKind::Ticket, life_s);
        claims.redirect = redirect.map(str::to_owned);
        format!("t={}", door.signer.sign(TokenKind::Ticket, &claims).expect("signs"))
    };
    let exchange = |door: &Door, query: &str, scheme| {
        let rules = Rules::of(&door.circuit).expect("private");
        door.authorizer.exchange(&rules, query, scheme).map(|exchanged| {
            let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
            (text(&exchanged.cookie), text(&exchanged.location))
        })
    };
    let (cookie, location) = exchange(&door, &ticket(&door, Some("/lab?x=1"), 60), Scheme::Https).expect("ours");
    assert_eq!(location, "/lab?x=1");
    let (pair, attributes) = cookie.split_once("; ").expect("attributes");
    assert!(pair.starts_with("__Host-appproxy-pass-"), "{pair}");
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure");
    assert_eq!(door.ask("GET", &[("cookie", pair.to_owned())]), Ok(Pass::Cookie));
    let (plain, _) = exchange(&door, &ticket(&door, None, 60), Scheme::Http).expect("ours");
    assert!(plain.starts_with("appproxy-pass-") && !plain.contains("Secure"), "{plain}");
    for elsewhere in ["//evil.test", "https://evil.test", "/\\evil.test", "lab"] {
        let (_, location) = exchange(&door, &ticket(&door, Some(elsewhere), 60), Scheme::Https).expect("ours");
        assert_eq!(location, "/", "{elsewhere}");
    }
    assert_eq!(exchange(&door, &ticket(&door, None, 0), Scheme::Https), Err(TokenError::Expired));
    let (_, bearer) = door.bearer();
    let bearer = bearer.replace("Bearer ", "t=");
    for query in ["", "t=", "t=x", "x=1", bearer.as_str()] {
        assert_eq!(exchange(&door, query, Scheme::Https), Err(TokenError::Malformed), "{query}");
    }
    let before = ticket(&door, None, 60);
    door.circuit.access_generation = Generation(9);
    assert_eq!(exchange(&door, &before, Scheme::Https), Err(TokenError::Revoked));
    door.circuit.id = CircuitId::random();
    assert_eq!(exchange(&door, &before, Scheme::Https), Err(TokenError::OtherCircuit));
    // The cookie lives for a working day and no longer.
    let mut door = Door::new(|_| {});
    let (cookie, _) = exchange(&door, &ticket(&door, None, 60), Scheme::Https).expect("ours");
    let pair = [("cookie", cookie.split(';').next().expect("a pair").to_owned())];
    door.clock.advance(Duration::from_secs(12 * 3_600 - 1));
    assert_eq!(door.ask("GET", &pair), Ok(Pass::Cookie));
    door.clock.advance(Duration::from_secs(1));
    assert_eq!(door.ask("GET", &pair), Err(Denial::BadCredential(TokenError::Expired)));
    door.circuit.access_generation = Generation(2);
}

#[test]
fn a_private_byte_stream_without_ranges_is_nobodys() {
    let ip = "192.0.2.1".parse().expect("valid");
    let allows = |door: &Door| Rules::of(&door.circuit).is_none_or(|rules| rules.allows_stream(ip));
    assert!(!allows(&Door::new(|_| {})));
    assert!(!allows(&Door::new(|access| access.allowed_clients = vec!["10.0.0.0/8".parse().expect("valid")])));
    assert!(allows(&Door::new(|access| access.allowed_clients = vec!["192.0.2.1/32".parse().expect("valid")])));
    assert!(allows(&Door::new(|access| access.public = true)));
}
