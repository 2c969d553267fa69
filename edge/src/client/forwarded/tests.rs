//! Whom fields name, and whom they cannot name.

use http::HeaderName;
use proptest::prelude::*;

use super::*;

const PROXY: &str = "10.0.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn is_trusted(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 10) || ip.to_string().starts_with("fd00:")
}

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
    }
    fields
}

fn ask(lines: &[(&str, &str)]) -> Result<Origin, Ambiguous> {
    origin(ip(PROXY), &fields(lines), is_trusted)
}

/// The client that the lines name, and whether somebody is hidden behind it.
fn client(lines: &[(&str, &str)]) -> (String, bool) {
    let origin = ask(lines).expect("no contradiction");
    (origin.ip.to_string(), origin.is_hidden)
}

fn listed(value: &str) -> (String, bool) {
    client(&[("x-forwarded-for", value)])
}

fn described(value: &str) -> (String, bool) {
    client(&[("forwarded", value)])
}

fn known(ip: &str) -> (String, bool) {
    (ip.to_owned(), false)
}

fn hidden(ip: &str) -> (String, bool) {
    (ip.to_owned(), true)
}

#[test]
fn the_client_is_the_right_most_hop_that_is_not_trusted() {
    assert_eq!(listed("198.51.100.7"), known("198.51.100.7"));
    assert_eq!(listed("6.6.6.6, 198.51.100.7"), known("198.51.100.7"));
    assert_eq!(listed("6.6.6.6, 198.51.100.7, 10.0.0.3,10.0.0.2"), known("198.51.100.7"));
    assert_eq!(listed(" 198.51.100.7\t,, 10.0.0.2 ,"), known("198.51.100.7"));
    assert_eq!(described("for=6.6.6.6, for=198.51.100.7;proto=http, for=10.0.0.2"), known("198.51.100.7"));
}

#[test]
fn several_lines_are_one_list() {
    let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.7"), ("x-forwarded-for", "10.0.0.2")];
    assert_eq!(client(&lines), known("198.51.100.7"));
    let lines = [("forwarded", "for=6.6.6.6"), ("forwarded", "for=198.51.100.7, for=10.0.0.2")];
    assert_eq!(client(&lines), known("198.51.100.7"));
}

#[test]
fn without_a_claim_the_proxy_asks_for_itself() {
    assert_eq!(client(&[]), known(PROXY));
}

#[test]
fn if_all_are_trusted_the_first_one_asks() {
    assert_eq!(listed("10.0.0.4, 10.0.0.3"), known("10.0.0.4"));
    assert_eq!(described("for=10.0.0.4, for=\"[fd00::3]\""), known("10.0.0.4"));
}

#[test]
fn addresses_are_understood_with_and_without_ports() {
    for (text, wanted) in [
        ("198.51.100.7:4711", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("[::ffff:198.51.100.7]:1", "198.51.100.7"),
        ("198.51.100.7:_hidden", "198.51.100.7"),
    ] {
        assert_eq!(listed(text), known(wanted), "{text}");
        assert_eq!(described(&format!("for=\"{text}\"")), known(wanted), "{text}");
    }
}

#[test]
fn parameters_have_any_order_and_any_case() {
    let value = "by=10.0.0.1; host=\"lab.test:80\" ;PROTO=HTTPS;For=\"[2001:DB8::7]:4711\";ext=\"a,b;c\"";
    let origin = ask(&[("forwarded", value)]).expect("clear");
    assert_eq!(origin.ip, ip("2001:db8::7"));
    assert_eq!(origin.scheme, Some(Scheme::Https));
    assert_eq!(origin.host, Some(HeaderValue::from_static("lab.test:80")));
}

#[test]
fn a_hop_that_cannot_be_understood_ends_the_walk_and_hides_somebody() {
    for text in [
        "unknown",
        "_secret",
        "198.51.100",
        "198.51.100.7.",
        "198.51.100.7:x",
        "198.51.100.7:65536",
        "[2001:db8::7",
        "[]",
        "[198.51.100.7]",
        "2001:db8::7]:1",
        "a b",
        "fe80::1%eth0",
        "198.51.100.7 6.6.6.6",
    ] {
        assert_eq!(listed(&format!("6.6.6.6, {text}, 10.0.0.2")), hidden("10.0.0.2"), "{text}");
        assert_eq!(described(&format!("for=6.6.6.6, for=\"{text}\", for=10.0.0.2")), hidden("10.0.0.2"), "{text}");
        assert_eq!(listed(text), hidden(PROXY), "{text}");
    }
    for element in
        ["proto=https", "for", "for=6.6.6.6;for=7.7.7.7", "for=\"6.6.6.6", "for=\"6.6.6\\.6\"", "=;=", "for=6.6.6.6 x"]
    {
        assert_eq!(described(element), hidden(PROXY), "{element}");
    }
}

#[test]
fn quotes_of_a_client_do_not_reach_what_the_proxy_wrote() {
    for start in ["for=\"", "for=\"6.6.6.6", "\"", "for=6.6.6.6;ext=\"", "\\", "for=\"a\\"] {
        assert_eq!(described(&format!("{start}, for=198.51.100.7")), known("198.51.100.7"), "{start}");
        assert_eq!(described(&format!("{start}, for=\"[2001:db8::7]\"")), known("2001:db8::7"), "{start}");
    }
}

#[test]
fn two_fields_that_name_different_clients_name_none() {
    let both = |list, description| ask(&[("x-forwarded-for", list), ("forwarded", description)]);
    assert_eq!(both("198.51.100.7", "for=6.6.6.6"), Err(Ambiguous));
    assert_eq!(both("198.51.100.7", "for=unknown"), Err(Ambiguous));
    assert_eq!(both("10.0.0.1", "for=unknown"), Err(Ambiguous));
    assert_eq!(
        both("198.51.100.7", "for=6.6.6.6, for=\"198.51.100.7:1\"").map(|origin| origin.ip),
        Ok(ip("198.51.100.7"))
    );
}

#[test]
fn what_the_neighbour_says_last_about_scheme_host_and_port_counts() {
    let origin = ask(&[
        ("x-forwarded-for", "198.51.100.7"),
        ("x-forwarded-proto", "http, https"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-host", "lab.test:8443"),
        ("x-forwarded-port", "8443"),
    ])
    .expect("clear");
    assert_eq!((origin.scheme, origin.port), (Some(Scheme::Https), Some(8443)));
    assert_eq!(origin.host, Some(HeaderValue::from_static("lab.test:8443")));
}

#[test]
fn only_http_and_https_are_schemes_and_only_hosts_are_hosts() {
    let origin = ask(&[("x-forwarded-proto", "javascript"), ("x-forwarded-host", "a\"b"), ("x-forwarded-port", "+80")])
        .expect("clear");
    assert_eq!((origin.scheme, origin.host, origin.port), (None, None, None));
}

#[test]
fn fields_that_do_not_name_the_client_do_not_say_how_it_came() {
    let origin = ask(&[
        ("forwarded", "for=198.51.100.7;proto=http"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.test"),
    ]);
    let origin = origin.expect("clear");
    assert_eq!((origin.scheme, origin.host), (Some(Scheme::Http), None));
}

#[test]
fn a_chain_without_an_end_is_cut_off() {
    let endless = vec!["10.0.0.2"; 10_000].join(",");
    assert_eq!(listed(&format!("198.51.100.7,{endless}")), hidden("10.0.0.2"));
    let endless = vec!["for=10.0.0.2"; 10_000].join(",");
    assert_eq!(described(&format!("for=198.51.100.7,{endless}")), hidden("10.0.0.2"));
    let longest = vec!["10.0.0.2"; MAX_HOPS - 1].join(",");
    assert_eq!(listed(&format!("198.51.100.7,{longest}")), known("198.51.100.7"));
}

proptest! {
    #[test]
    fn whatever_stands_left_of_an_untrusted_hop_changes_nothing(junk in "[ -~]{0,60}") {
        prop_assert_eq!(listed(&format!("{junk},198.51.100.7, 10.0.0.2")), known("198.51.100.7"));
        prop_assert_eq!(described(&format!("{junk},for=198.51.100.7, for=10.0.0.2")), known("198.51.100.7"));
    }

    #[test]
    fn no_field_makes_it_panic(one in proptest::collection::vec(any::<u8>(), 0..80), other in "[a-z0-9\",;=\\[\\]:._ ]{0,80}") {
        let mut fields = HeaderMap::new();
        for (name, bytes) in [("x-forwarded-for", &one[..]), ("forwarded", other.as_bytes()), ("x-forwarded-host", &one[..])] {
            if let Ok(value) = HeaderValue::from_bytes(bytes) {
                fields.append(name.parse::<HeaderName>().expect("a name"), value);
            }
        }
        let _ = origin(ip(PROXY), &fields, is_trusted);
    }
}
