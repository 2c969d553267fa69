//! What letting a request into a private circuit costs: the first time, when the signature is verified, and after it.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use benches::circuits::{Mode, circuit};
use criterion::{BatchSize, Criterion};
use edge::access::{Authorizer, PublicKeys, Rules};
use entities::access::Access;
use entities::authority::Scheme;
use entities::circuit::Circuit;
use entities::clock::SystemClock;
use entities::token::{Claims, CookieKey, SigningKey, TokenKind};
use http::request::Parts;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FAR_S: i64 = 4_000_000_000;

pub(crate) fn measure(criterion: &mut Criterion) {
    let signer = SigningKey::from_seed([1; 32]);
    let cookie_key = CookieKey::derived_from("benches");
    let keys = Arc::new(PublicKeys::default());
    keys.replace([signer.public()]);
    let authorizer = || Authorizer::new(Arc::clone(&keys), vec![cookie_key.clone()], Arc::new(SystemClock));
    let ports = "30000-30001".parse().expect("valid");
    let circuit =
        Circuit { access: Access::default(), ..circuit(Mode::Subdomain, 1, ports, ([127, 0, 0, 1], 80).into()) };
    let rules = Rules::of(&circuit).expect("it is private");
    let claims = |kind| Claims::of(kind, &circuit, FAR_S);
    let token = signer.sign(TokenKind::Bearer, &claims(TokenKind::Bearer)).expect("signs");
    let cookie = cookie_key.sign(&claims(TokenKind::Cookie)).expect("signs");
    let name = format!("appproxy-pass-{}", circuit.id.0.simple());
    let by_token = request("authorization", &format!("Bearer {token}"));
    let by_cookie = request("cookie", &format!("_xsrf=2|8f1c; username-lab=2|1:0; {name}={cookie}; theme=dark"));

    let mut group = criterion.benchmark_group("access");
    for (word, request) in [("token", &by_token), ("cookie", &by_cookie)] {
        let enter = |authorizer: &Authorizer| {
            authorizer.authorize(&rules, black_box(request), Some(CLIENT), Scheme::Http, "lab.apps.test")
        };
        let warm = authorizer();
        assert!(enter(&warm).is_ok(), "{word}");
        group.bench_function(format!("{word} seen before"), |bencher| bencher.iter(|| enter(&warm)));
        group.bench_function(format!("{word} for the first time"), |bencher| {
            bencher.iter_batched_ref(authorizer, |fresh| enter(fresh), BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn request(name: &str, value: &str) -> Parts {
    let request = http::Request::get("/lab/tree").header("origin", "http://lab.apps.test").header(name, value);
    request.body(()).expect("valid").into_parts().0
}
