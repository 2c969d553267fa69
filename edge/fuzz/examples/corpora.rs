//! Writes what the fuzz targets begin with: `cargo run --example corpora` in this folder. Other files there stay.

use std::collections::HashSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_fuzz::signed;
use entities::registry::layout::{Meta, encode_public_key};
use serde_json::{Value, json};

#[path = "../../testkit/src/corpus.rs"]
#[allow(dead_code, missing_docs, reason = "the file itself: the crate has pingora in it")]
mod corpus;

/// Longer ones are for tests: targets do not read as much.
const MAX_BYTES: usize = 4_096;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result {
    let heads = [("guard", "http1.txt"), ("guard_http2", "http2.txt")];
    for (target, file) in heads {
        write_heads(target, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(file))?;
    }
    write_tokens()?;
    write_envelopes()?;
    for (name, text) in HOSTS {
        write("host", name, text.as_bytes())?;
    }
    for (name, text) in FORWARDED {
        write("forwarded", name, text.as_bytes())?;
    }
    for (name, text) in PROXY_HEADERS {
        write("proxy_protocol", name, &corpus::bytes(text))?;
    }
    Ok(())
}

fn write(target: &str, name: &str, bytes: &[u8]) -> Result {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join(name), bytes)?)
}

/// Of each rule the first case and its twin.
fn write_heads(target: &str, file: &Path) -> Result {
    let mut seen = HashSet::new();
    for case in corpus::read(&std::fs::read_to_string(file)?) {
        if case.bad.len().max(case.good.len()) > MAX_BYTES || !seen.insert(case.rule.clone()) {
            continue;
        }
        for (kind, bytes) in [("bad", &case.bad), ("good", &case.good)] {
            // Content is nothing that a guard of heads is asked about.
            let is_http2 = target == "guard_http2";
            let lines: Vec<&[u8]> =
                bytes.split(|byte| *byte == b'\n').filter(|line| !is_http2 || !line.starts_with(b"+")).collect();
            let bytes = lines.join(&b'\n');
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
            write(target, &format!("{}_{kind}", case.rule), bytes.get(..end).unwrap_or(&bytes))?;
        }
    }
    Ok(())
}

fn write_tokens() -> Result {
    let signed = signed::all();
    let base64 = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for signed in &signed {
        write("token", signed.name, signed.token.as_bytes())?;
        let mut parts = signed.token.split('.');
        let (Some(header), Some(claims), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if signed.name.contains("old") {
            continue;
        }
        let typ = format!("appproxy-{}+jwt", if signed.name == "bearer" { "token" } else { signed.name });
        let kid = signed::signing_keys()[0].public().id();
        let header_of = |alg: &str| base64(&json!({"typ": typ, "alg": alg, "kid": kid.as_str()}));
        write("token", &format!("{}_alg_none", signed.name), format!("{}.{claims}.", header_of("none")).as_bytes())?;
        let forged = format!("{}.{claims}.{signature}", header_of("HS256"));
        write("token", &format!("{}_alg_hs256", signed.name), forged.as_bytes())?;
        let unsigned = format!("{header}.{claims}.");
        write("token", &format!("{}_without_signature", signed.name), unsigned.as_bytes())?;
        let padded = format!("{}=", signed.token);
        write("token", &format!("{}_with_padding", signed.name), padded.as_bytes())?;
    }
    for (name, bytes) in [
        ("somebody_elses", &b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln"[..]),
        ("no_parts", b".."),
        ("changes_insert", b"\0\0\x20A"),
        ("changes_remove", b"\x09\0\x20A\x09\0\x20A"),
        ("changes_bits", b"\x0a\0\xffQ\x0b\0\x30\x01"),
        ("changes_parts", b"\x05\0\0\x01\x0d\0\0\x03\x15\x01\x01\x02"),
        ("changes_length", b"\x04\0\x80\0\x06\0\x20\x02\x07\0\x10\x08"),
    ] {
        write("token", name, bytes)?;
    }
    Ok(())
}

fn write_envelopes() -> Result {
    let circuit = json!({
        "id": "00000000-0000-0000-0000-000000000001", "key": "s1:jupyter", "authority": "main",
        "frontend": {"mode": "subdomain", "subdomain": "lab", "host": "lab.apps.test"}, "protocol": "http",
        "backend": "http", "targets": [{"host": "10.0.0.5", "port": 8888, "weight": 1}],
        "load_balancing": {"strategy": "round_robin"}, "access": {"public": true}, "access_generation": 2});
    let with = |changes: Value| {
        let mut changed = circuit.clone();
        if let (Some(changed), Some(changes)) = (changed.as_object_mut(), changes.as_object()) {
            changed.extend(changes.clone());
        }
        changed
    };
    let open = |circuit: Value| json!({"schema": 1, "generation": 3, "circuit": circuit});
    let envelopes = [
        ("open", open(circuit.clone())),
        ("closed", json!({"schema": 1, "generation": 4, "closed": true})),
        ("open_and_closed", json!({"schema": 1, "generation": 4, "closed": true, "circuit": circuit})),
        ("neither", json!({"schema": 1, "generation": 4})),
        ("newer", json!({"schema": 2, "generation": 4, "anything": []})),
        ("unknown_field", json!({"schema": 1, "generation": 4, "closed": true, "by": "someone"})),
        (
            "port",
            open(with(json!({"frontend": {"mode": "port", "port": 30_000}, "key": "s1:shell:one",
            "protocol": "ssh", "backend": "tcp",
            "targets": [{"host": "::1", "port": 22, "weight": 0}, {"host": "Node.Test.", "port": 22, "weight": 5}]}))),
        ),
        (
            "private",
            open(with(json!({"access": {"public": false, "user_id": "u@lab.test",
            "allowed_clients": ["10.0.0.0/8", "2001:db8::/32"], "allowed_origins": ["https://Pages.test:443"],
            "allow_preflight": true, "forward_token": true, "login_url": "https://manager.test/login"}}))),
        ),
        (
            "traffic",
            open(with(json!({"load_balancing": {"strategy": "least_connections"}, "traffic": {
            "timeouts": {"connect_ms": 3_000, "first_byte_ms": 0, "idle_s": 60, "drain_s": 5},
            "headers": {"request": {"set": {"x-a": "b"}, "remove": ["x-c"]}, "response": {"remove": ["server"]}},
            "affinity": {"cookie": true}, "retries": {"idempotent": true, "attempts": 2},
            "health_check": {"type": "http", "path": "/api", "expected_status": [200, 204], "interval_s": 5,
                "timeout_s": 2, "retries": 3, "grace_s": 1},
            "rate_limit": {"requests_per_s": 0.5, "burst": 10, "per": "circuit"},
            "bandwidth": {"bytes_per_s": 1_000_000}}}))),
        ),
        (
            "stream",
            open(with(json!({"protocol": "tcp", "backend": "tcp", "targets": [],
            "traffic": {"proxy_protocol": "v2"}}))),
        ),
        ("uuid_key", open(with(json!({"key": "6F9619FF-8B86-D011-B42D-00CF4FC964FF:jupyter"})))),
    ];
    for (name, value) in envelopes {
        write("envelope", name, value.to_string().as_bytes())?;
    }
    let key = signed::signing_keys()[0].public();
    write("envelope", "key", &encode_public_key(&key)?)?;
    let meta: Meta = serde_json::from_value(json!({"installation_id": "00000000-0000-0000-0000-000000000001",
        "epoch": "00000000-0000-0000-0000-000000000002", "complete": true}))?;
    write("envelope", "meta", &meta.encode()?)?;
    let places = format!(
        "/lab/\n/lab/circuits/s1:jupyter\n/appproxy/circuits/s1:jupyter:v\n/appproxy/keys/{}\n/appproxy/meta\n\
         /appproxy/workers/w1\n/appproxy/circuits/6F9619FF-8B86-D011-B42D-00CF4FC964FF:jupyter",
        key.id()
    );
    write("envelope", "places", places.as_bytes())?;
    write("envelope", "places_without_prefix", b"/\n/circuits/s1:jupyter")
}

const HOSTS: [(&str, &str); 30] = [
    ("name", "lab.apps.test"),
    ("upper_case", "Lab.Apps.Test"),
    ("trailing_dot", "lab.apps.test."),
    ("trailing_dot_and_port", "lab.apps.test.:6130"),
    ("two_trailing_dots", "lab.apps.test.."),
    ("only_dots", ".."),
    ("leading_dot", ".lab"),
    ("port", "lab.apps.test:6130"),
    ("port_empty", "lab.apps.test:"),
    ("port_with_zeros", "lab.apps.test:00080"),
    ("port_too_large", "lab.apps.test:65536"),
    ("port_twice", "lab:80:80"),
    ("localhost", "localhost:6130"),
    ("ipv4", "127.0.0.1:6130"),
    ("ipv6", "[::1]:6130"),
    ("ipv6_upper_case", "[2001:DB8::A]"),
    ("ipv6_with_ipv4", "[::ffff:10.0.0.1]"),
    ("ipv6_with_zone", "[fe80::1%25eth0]"),
    ("ipv6_open", "[::1"),
    ("ipv6_and_more", "[::1]x:80"),
    ("user", "user@lab.test"),
    ("path", "lab.test/a?b#c"),
    ("space", "lab .test"),
    ("underscore", "lab_1.test"),
    ("hyphens", "-lab-.test"),
    ("label", "a1-b"),
    ("no_ascii", "l\u{e4}b.test"),
    ("origin", "https://lab.apps.test:443"),
    ("origin_with_port", "http://Lab.Apps.Test:6130"),
    ("origin_of_ipv6", "http://[::1]:8080"),
];

const FORWARDED: [(&str, &str); 22] = [
    ("one_hop", "9.9.9.9\nX-Forwarded-For: 203.0.113.5"),
    ("trusted_hops", "9.9.9.9\nX-Forwarded-For: 203.0.113.5, 10.0.0.2, 10.0.0.3"),
    ("all_trusted", "9.9.9.9\nX-Forwarded-For: 10.0.0.2, fd00::1"),
    ("several_lines", "a\nX-Forwarded-For: 203.0.113.5\nX-Forwarded-For: 10.0.0.2"),
    ("with_ports", "a\nX-Forwarded-For: 203.0.113.5:80, [fd00::1]:8080"),
    ("mapped", "a\nX-Forwarded-For: ::ffff:203.0.113.5, ::ffff:10.0.0.2"),
    ("unknown", "a\nX-Forwarded-For: 203.0.113.5, unknown, 10.0.0.2"),
    ("empty_parts", "a\nX-Forwarded-For: ,, 203.0.113.5 , ,10.0.0.2,"),
    ("quotes", "\"\nX-Forwarded-For: 203.0.113.5\", \"10.0.0.2"),
    ("described", "for=9.9.9.9\nForwarded: for=203.0.113.5;proto=https;host=lab.test"),
    ("described_hops", "for=9.9.9.9\nForwarded: for=203.0.113.5, for=10.0.0.2;by=10.0.0.1"),
    ("described_in_quotes", "x\nForwarded: for=\"[2001:db8::1]:4711\";proto=HTTPS, For=\"10.0.0.2:80\""),
    ("described_hidden", "x\nForwarded: for=203.0.113.5, for=_hidden;proto=http"),
    ("described_hidden_port", "x\nForwarded: for=\"203.0.113.5:_p\""),
    ("described_twice", "x\nForwarded: for=203.0.113.5;for=203.0.113.6, for=10.0.0.2"),
    ("described_escape", "x\nForwarded: for=\"203.0.113.\\5\", for=10.0.0.2"),
    ("described_open_quote", "x\nForwarded: for=\"203.0.113.5, for=10.0.0.2"),
    ("both_agree", "x\nForwarded: for=203.0.113.5\nX-Forwarded-For: 203.0.113.5"),
    ("both_differ", "x\nForwarded: for=203.0.113.5\nX-Forwarded-For: 203.0.113.6"),
    (
        "proto_host_port",
        "x\nX-Forwarded-For: 203.0.113.5\nX-Forwarded-Proto: http, https\nX-Forwarded-Host: a.test, Lab.test:80\n\
         X-Forwarded-Port: 80, 443",
    ),
    ("host_is_none", "x\nX-Forwarded-Host: a b@c\nX-Forwarded-Port: 65536\nX-Forwarded-Proto: ftp"),
    (
        "more_hops_than_anybody_has",
        "x\nX-Forwarded-For: 203.0.113.5,10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,\
         10.0.0.9,10.0.0.10,10.0.0.11,10.0.0.12,10.0.0.13,10.0.0.14,10.0.0.15,10.0.0.16,10.0.0.17,10.0.0.18,10.0.0.19,\
         10.0.0.20,10.0.0.21,10.0.0.22,10.0.0.23,10.0.0.24,10.0.0.25,10.0.0.26,10.0.0.27,10.0.0.28,10.0.0.29,10.0.0.30,\
         10.0.0.31,10.0.0.32,10.0.0.33",
    ),
];

/// In the escapes of the corpora of malformed requests.
const PROXY_HEADERS: [(&str, &str); 30] = [
    ("line_tcp4", r"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\nGET / HTTP/1.1\r\n"),
    ("line_tcp6", r"PROXY TCP6 2001:db8::1 ::1 1 2\r\n"),
    ("line_mapped", r"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"),
    ("line_ports", r"PROXY TCP4 1.1.1.1 2.2.2.2 0 65535\r\n\r\n"),
    ("line_unknown", r"PROXY UNKNOWN\r\n"),
    ("line_unknown_and_more", r"PROXY UNKNOWN ff\rff x\r\n\n"),
    ("line_longest", r"PROXY UNKNOWN \{91*x}\r\n"),
    ("line_too_long", r"PROXY UNKNOWN \{92*x}\r\n"),
    ("line_without_end", r"PROXY TCP4 \{200*1}"),
    ("line_cut", r"PROXY TCP4 192.0.2.1 192.0."),
    ("line_two_spaces", r"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n"),
    ("line_zeros", r"PROXY TCP4 1.1.1.01 2.2.2.2 01 2\r\n"),
    ("line_plus", r"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n"),
    ("line_other_family", r"PROXY TCP4 ::1 ::2 1 2\r\n"),
    ("line_bare_end", r"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n"),
    ("binary_ipv4", r"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x01\x02\x03\x04GET /"),
    ("binary_ipv6", r"\r\n\r\n\0\r\nQUIT\n!!\0\x24\x20\x01\{13*\0}\x01\{15*\0}\x02\0\x01\0\x02"),
    ("binary_mapped", r"\r\n\r\n\0\r\nQUIT\n!!\0\x24\{10*\0}\xff\xff\x0a\0\0\x01\{15*\0}\x02\0\x01\0\x02"),
    ("binary_local", r"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    ("binary_local_with_addresses", r"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x0c\{12*\x01}"),
    ("binary_unspec", r"\r\n\r\n\0\r\nQUIT\n!\0\0\x04abcd"),
    ("binary_unix", r"\r\n\r\n\0\r\nQUIT\n!1\0\xd8\{216*\0}"),
    ("binary_extensions", r"\r\n\r\n\0\r\nQUIT\n!\x11\0\x10\{12*\x01}\x04\0\x01\0"),
    ("binary_longest", r"\r\n\r\n\0\r\nQUIT\n!\x11\x02\x08\{520*\x01}"),
    ("binary_too_long", r"\r\n\r\n\0\r\nQUIT\n!\x11\x02\x09\{521*\x01}"),
    ("binary_no_room", r"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0b\{12*\x01}"),
    ("binary_datagrams", r"\r\n\r\n\0\r\nQUIT\n!\x12\0\x0c\{12*\x01}"),
    ("binary_other_version", r"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c\{12*\x01}"),
    ("binary_cut", r"\r\n\r\n\0\r\nQUIT\n!\x11\0"),
    ("no_header", r"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
];
